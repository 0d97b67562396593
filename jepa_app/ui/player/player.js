// Collects the deltas of one run and shows any step of it. Gradio's js_on_load provides element, trigger, props, server
// and watch. Text from users only ever goes through textContent and attributes. steer.js, watch.js and keep.js follow in
// the same scope.
const root = element.querySelector('.player');
const part = (name) => root.querySelector('.' + name);
const picture = part('picture'), tiles = part('tiles'), timeline = part('timeline'), play = part('play');
const speed = part('speed'), seeThrough = part('see-through').querySelector('input');
const views = [...part('views').children];
const MAX_REPLAY_MS = 2400, FRAME_MS = 120, ANNOUNCE_MS = 250;
const KEPT = 'kept-'; // stands before the job of a run from the history
const MOST_NUMBERS = 16; // with more tiles on a side, they carry no numbers

let run = null;       // the last delta of the visible run: job, prompt, seed, settings, grid, ...
let total = 0;
let moments = [];     // step -> { source, born, delta }, with holes for lost steps; born: token position -> the step that revealed it
let shown = -1;
let latest = -1;
let timer = null;
let announcing = null;
let view = 'unmasking';
let before = {};      // the run that was visible when the current one was requested, and its latest step

const isRunning = () => root.dataset.run === 'on';
const say = (text) => { part('status').textContent = text; };

// What a screen reader says: a step as soon as the user stays on it, and the end of a run, but not every frame.
function announce(text, wait = 0) {
  clearTimeout(announcing);
  announcing = setTimeout(() => { part('announcer').textContent = text; }, wait);
}

function begin(delta) {
  pause();
  stopPainting();
  moments = startsFrom(delta); // a run that continues the visible one keeps its steps
  shown = latest = moments.length - 1;
  drawBoard(delta.grid);
  root.dataset.state = 'shown';
  root.toggleAttribute('data-still', Boolean(delta.still)); // the history keeps only the last picture of a run
  picture.hidden = part('about').hidden = false;
  timeline.disabled = play.disabled = Boolean(delta.still);
  forget();
  if (!choice.some((one) => one.job === delta.job)) drawChoice([]);
}

function drawBoard(grid) {
  tiles.style.setProperty('--grid', grid);
  tiles.replaceChildren(...Array.from({ length: grid * grid }, () => document.createElement('i')));
}

function accept(delta) {
  const following = shown === latest;
  run = delta;
  total = delta.n;
  pressCandidate();
  timeline.max = Math.max(total, 2);
  moments[delta.i] = {
    source: 'data:' + delta.type + ';base64,' + delta.frame,
    cutout: delta.cutout ? 'data:image/png;base64,' + delta.cutout : null,
    born: delta.born.map((step) => (step < 0 ? Infinity : step)),
    delta: { ...delta, frame: undefined, cutout: undefined },
  };
  latest = Math.max(latest, delta.i);
  if (following) show(latest);
  remember();
  if (delta.still) {
    say(words('kept'));
    rejoin(delta.job.slice(KEPT.length), false, delta.job); // the server may still have the other steps
  }
  if (delta.i < total - 1 && isRunning()) say(words('running', { step: delta.i + 1, total }));
}

function finish(delta) {
  root.dataset.run = 'off';
  remember();
  show(shown);
  say(words('finished', { seconds: delta.seconds.toFixed(1) }));
  announce(words('finished', { seconds: delta.seconds.toFixed(1) }));
  document.dispatchEvent(new CustomEvent('jepa:finished', { detail: { ...delta, cutout: undefined, frame: moments[delta.i].source } }));
}

function momentOf(step) { // for a lost step, the last step before it
  while (step > 0 && !moments[step]) step -= 1;
  return moments[step] ?? moments[latest];
}

// What is shown of a step and downloaded: the finished picture may be without its background.
const sourceOf = (moment) => (seeThrough.checked && moment.cutout ? moment.cutout : moment.source);

function show(step) {
  shown = Math.max(0, Math.min(step, latest));
  const moment = momentOf(shown);
  const source = view === 'predicted' ? moment.predicted ?? sourceOf(moment) : sourceOf(moment);
  if (picture.getAttribute('src') !== source) picture.src = source;
  picture.toggleAttribute('data-see-through', source === moment.cutout);
  part('see-through').hidden = !momentOf(total - 1)?.cutout;
  part('download').href = sourceOf(moment);
  const place = words('place', { step: shown + 1, total });
  const prompt = moment.delta.prompt;
  picture.alt = prompt ? words('alt', { prompt, place }) : words('alt_begin');
  part('prompt-shown').textContent = prompt || words('alt_begin');
  part('seed').textContent = moment.delta.seed;
  part('reuse').hidden = part('to-match').hidden = !prompt;
  timeline.value = shown + 1;
  timeline.setAttribute('aria-valuetext', place);
  timeline.style.setProperty('--at', total > 1 ? shown / (total - 1) : 1);
  part('counter').textContent = (shown + 1) + ' / ' + total;
  drawTokens();
  drawSteering();
  drawFit();
  if (view === 'predicted') predict(shown);
}

function handOver(event) { // the step that is shown, which need not be the latest
  const { source, delta } = momentOf(shown);
  props.value = { ...delta, frame: source.slice(source.indexOf(',') + 1), shown: true };
  trigger(event);
}

function scrub(step) { // a move by the user; the stream and the replay call `show` directly
  if (latest < 0 || timeline.disabled) return;
  pause();
  show(step);
  announce([words('place', { step: shown + 1, total }), part('tokens').textContent, part('fit').textContent].filter(Boolean).join(', '), ANNOUNCE_MS);
}

const drawTile = {
  picture: () => '',
  predicted: (born) => (born > shown ? 'guess' : ''),
  unmasking: (born) => (born > shown ? 'unknown' : born === shown && shown < total - 1 ? 'new' : ''),
  order: (born) => (born === Infinity ? 'unknown' : born > shown ? 'heat later' : born === shown ? 'heat new' : 'heat'),
};

function drawTokens() {
  const born = momentOf(shown).born;
  const drawn = view === 'order' ? momentOf(latest).born : born; // the order shows later steps too
  const known = born.filter((step) => step <= shown).length;
  const fresh = born.filter((step) => step === shown).length;
  drawn.forEach((step, position) => {
    const tile = tiles.children[position];
    const heat = total > 1 ? step / (total - 1) : 1;
    tile.className = (isPainting() ? '' : drawTile[view](step) + (heat > 0.5 ? ' second-half' : '') + (heat > 0.64 ? ' white-on-dark' : ''));
    if (view !== 'order' || step === Infinity || isPainting()) { delete tile.dataset.step; return; }
    tile.style.setProperty('--heat', heat);
    tile.dataset.step = run.grid <= MOST_NUMBERS ? step + 1 : '';
  });
  const [planned, ofPlan] = momentOf(shown).delta.plan ?? [0, 0];
  root.toggleAttribute('data-planned', planned > 0); // it shows through where nothing is painted yet
  part('tokens').textContent = planned > 0 && known === 0
    ? words('planned', { known: planned, all: ofPlan }) : words('tokens', { fresh, known, all: born.length });
  if (isPainting()) drawMarks();
}

function setView(name) {
  view = root.dataset.view = name;
  for (const button of views) button.setAttribute('aria-pressed', String(button.dataset.view === name));
  if (latest >= 0) show(shown);
}

function pause() {
  clearInterval(timer);
  timer = null;
  play.setAttribute('aria-label', words('play'));
  delete root.dataset.playing;
}

function replay() {
  if (latest < 0 || play.disabled || isPainting()) return;
  if (shown >= latest) show(0);
  clearInterval(timer);
  play.setAttribute('aria-label', words('pause'));
  root.dataset.playing = 'yes';
  timer = setInterval(() => {
    if (shown >= latest) { if (!isRunning()) pause(); return; }
    show(shown + 1);
  }, Math.min(FRAME_MS, MAX_REPLAY_MS / total) / Number(speed.value));
}

const toggle = () => { if (timer) pause(); else replay(); };
play.addEventListener('click', toggle);
speed.addEventListener('change', () => { if (timer) replay(); });
timeline.addEventListener('input', () => scrub(Number(timeline.value) - 1));
for (const button of views) button.addEventListener('click', () => setView(button.dataset.view));
part('reuse').addEventListener('click', () => handOver('reuse'));
part('to-match').addEventListener('click', () => handOver('match'));

const KEYS = {
  ArrowLeft: () => scrub(shown - 1),
  ArrowRight: () => scrub(shown + 1),
  Home: () => scrub(0),
  End: () => scrub(latest),
  ' ': toggle,
  m: () => setView(views[(views.findIndex((button) => button.dataset.view === view) + 1) % views.length].dataset.view),
};
root.addEventListener('keydown', (event) => {
  const act = isPainting() ? PAINT_KEYS[event.key] : KEYS[event.key];
  const at = event.target;
  if (!act || event.ctrlKey || event.metaKey || event.altKey || at.matches('select')) return;
  const isPressed = at.matches('button, a, summary, input[type=checkbox]');
  if (isPressed && (event.key === ' ' || event.key === 'Enter')) return; // the browser presses the control
  if (at === timeline && event.key !== ' ' && event.key !== 'm') return; // the browser moves the slider
  event.preventDefault();
  act();
});

watch('value', () => {
  const delta = props.value;
  if (delta?.waiting) { say(waitingWords(delta.waiting)); return; }
  if (!delta?.job || !delta.frame || delta.edit || delta.shown) return;
  if (delta.choice) drawChoice(delta.choice);
  if (delta.job !== run?.job) begin(delta);
  const wasRunning = isRunning();
  accept(delta);
  if (wasRunning && delta.i === total - 1) {
    if (delta.of && !delta.choice) say(words('choosing', { count: delta.of })); // the server is still making the others
    else finish(delta);
  }
  lookAround();
});

function bringIntoView() { // on a phone the stage may lie below the visible part of the page
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  root.scrollIntoView({ block: 'nearest', behavior: calm ? 'auto' : 'smooth' });
}

// The Generate tab reports when a run starts and when it has ended, whether it finished, was stopped or failed.
document.addEventListener('jepa:run', (event) => {
  const wasRunning = isRunning();
  if (event.detail === 'start' && wasRunning) return; // Gradio also ignores a second press
  root.dataset.run = event.detail === 'start' ? 'on' : 'off';
  if (event.detail === 'start') {
    before = { job: run?.job, latest };
    stopPainting();
    say(words('waiting'));
    bringIntoView();
  } else if (wasRunning) {
    const hasMoved = run?.job !== before.job || latest > before.latest; // if not, the run was refused and an older one is visible
    const partial = hasMoved && latest >= 0 && latest < total - 1;
    say(partial ? words('stopped', { step: latest + 1, total }) : '');
    announce(part('status').textContent);
    if (partial) comeBack();
  }
  if (latest >= 0) drawSteering();
});

drawBoard(8);
