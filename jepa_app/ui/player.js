// Collects the deltas of one generation and shows any step of it. Runs inside Gradio's js_on_load, which provides
// element, trigger, props, server and watch. Text from users only ever goes through textContent and attributes.
const root = element.querySelector('.player');
const part = (name) => root.querySelector('.' + name);
const picture = part('picture'), tiles = part('tiles'), timeline = part('timeline'), play = part('play');
const speed = part('speed');
const views = [...part('views').children];
const MAX_REPLAY_MS = 2400, FRAME_MS = 120, ANNOUNCE_MS = 250;
const MOST_NUMBERS = 16; // tiles a side up to which the order is written into them

let run = null;       // what the first delta of the shown run said: job, prompt, seed, settings, grid, ...
let total = 0;
let frames = [];      // step -> data URL; a hole where a delta was lost on the way
let bornAt = [];      // token position -> the step that revealed it
let secondsAt = [];   // step -> seconds since the run began
let shown = -1;
let latest = -1;
let timer = null;
let announcing = null;
let view = 'unmasking';
let jobBefore = null; // the run that was shown when the current one was asked for

const isRunning = () => root.dataset.run === 'on';
const say = (text) => { part('status').textContent = text; };

// What a screen reader says: a step once the user rests on it, the end of a run; never every streamed frame.
function announce(text, wait = 0) {
  clearTimeout(announcing);
  announcing = setTimeout(() => { part('announcer').textContent = text; }, wait);
}

function begin(delta) {
  pause();
  run = delta; total = delta.n;
  frames = []; secondsAt = []; shown = latest = -1;
  bornAt = delta.born ?? new Array(delta.grid * delta.grid).fill(Infinity);
  drawBoard(delta.grid);
  root.dataset.state = 'shown';
  timeline.max = Math.max(total, 2);
  timeline.disabled = play.disabled = Boolean(delta.born); // of a kept run only the last picture is there
  picture.hidden = part('about').hidden = false;
  part('prompt-shown').textContent = delta.prompt;
  part('seed').textContent = delta.seed;
}

function drawBoard(grid) {
  tiles.style.setProperty('--grid', grid);
  tiles.replaceChildren(...Array.from({ length: grid * grid }, () => document.createElement('i')));
}

function accept(delta) {
  const following = shown === latest;
  frames[delta.i] = 'data:' + delta.type + ';base64,' + delta.frame;
  secondsAt[delta.i] = delta.seconds;
  for (const position of delta.revealed) bornAt[position] = Math.min(bornAt[position], delta.i);
  latest = Math.max(latest, delta.i);
  if (following) show(latest);
  if (delta.born) {
    say(words('kept'));
  } else if (delta.i === total - 1) {
    root.dataset.run = 'off';
    say(words('finished', { seconds: delta.seconds.toFixed(1) }));
    announce(words('finished', { seconds: delta.seconds.toFixed(1) }));
    document.dispatchEvent(new CustomEvent('jepa:finished', { detail: { ...run, frame: frames[delta.i], born: bornAt } }));
  } else if (isRunning()) {
    say(words('running', { step: delta.i + 1, total }));
  }
}

function sourceOf(step) { // of a step that was lost, the last one before it
  while (step > 0 && !frames[step]) step -= 1;
  return frames[step];
}

function show(step) {
  shown = Math.max(0, Math.min(step, latest));
  const source = sourceOf(shown);
  if (source) picture.src = part('download').href = source;
  const place = words('place', { step: shown + 1, total });
  picture.alt = words('alt', { prompt: run.prompt, place });
  timeline.value = shown + 1;
  timeline.setAttribute('aria-valuetext', place);
  timeline.style.setProperty('--at', total > 1 ? shown / (total - 1) : 1);
  part('counter').textContent = (shown + 1) + ' / ' + total;
  drawTokens();
}

function scrub(step) { // the user moves; `show` alone is the stream or the replay
  if (latest < 0 || timeline.disabled) return;
  pause();
  show(step);
  announce(words('place', { step: shown + 1, total }) + ', ' + part('tokens').textContent, ANNOUNCE_MS);
}

const drawTile = {
  picture: () => '',
  unmasking: (born) => (born > shown ? 'unknown' : born === shown && shown < total - 1 ? 'new' : ''),
  order: (born) => (born > latest ? 'unknown' : born > shown ? 'heat later' : born === shown ? 'heat new' : 'heat'),
};

function drawTokens() {
  let known = 0, fresh = 0;
  bornAt.forEach((born, position) => {
    known += born <= shown;
    fresh += born === shown;
    const tile = tiles.children[position];
    const heat = total > 1 ? born / (total - 1) : 1;
    tile.className = drawTile[view](born) + (heat > 0.5 ? ' second-half' : '') + (heat > 0.64 ? ' white-on-dark' : '');
    if (view !== 'order' || born > latest) { delete tile.dataset.step; return; }
    tile.style.setProperty('--heat', heat);
    tile.dataset.step = run.grid <= MOST_NUMBERS ? born + 1 : '';
  });
  part('tokens').textContent = words('tokens', { fresh, known, all: bornAt.length });
}

function setView(name) {
  view = root.dataset.view = name;
  for (const button of views) button.setAttribute('aria-pressed', String(button.dataset.view === name));
  if (latest >= 0) drawTokens();
}

function pause() {
  clearInterval(timer);
  timer = null;
  play.setAttribute('aria-label', words('play'));
  delete root.dataset.playing;
}

function replay() {
  if (latest < 0 || play.disabled) return;
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
part('reuse').addEventListener('click', () => trigger('reuse'));
part('to-match').addEventListener('click', () => trigger('match'));

const KEYS = {
  ArrowLeft: () => scrub(shown - 1),
  ArrowRight: () => scrub(shown + 1),
  Home: () => scrub(0),
  End: () => scrub(latest),
  ' ': toggle,
  m: () => setView(views[(views.findIndex((button) => button.dataset.view === view) + 1) % views.length].dataset.view),
};
root.addEventListener('keydown', (event) => {
  const act = KEYS[event.key];
  const at = event.target;
  if (!act || event.ctrlKey || event.metaKey || event.altKey || at.matches('select')) return;
  if (event.key === ' ' && at.matches('button, a, summary, input[type=checkbox]')) return; // they are pressed by it
  if (at === timeline && event.key !== ' ' && event.key !== 'm') return; // the range input moves by itself
  event.preventDefault();
  act();
});

watch('value', () => {
  const delta = props.value;
  if (!delta || !delta.job) return;
  if (delta.job !== run?.job) begin(delta);
  accept(delta);
});

function bringIntoView() { // on a phone the stage may lie below the fold
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  root.scrollIntoView({ block: 'nearest', behavior: calm ? 'auto' : 'smooth' });
}

// The Generate tab tells when a run starts, and when it has ended: finished, stopped or failed.
document.addEventListener('jepa:run', (event) => {
  const wasRunning = isRunning();
  if (event.detail === 'start' && wasRunning) return; // Gradio ignores the second press too
  root.dataset.run = event.detail === 'start' ? 'on' : 'off';
  if (event.detail === 'start') {
    jobBefore = run?.job;
    say(words('waiting'));
    bringIntoView();
  } else if (wasRunning) {
    const partial = run?.job !== jobBefore && latest < total - 1;
    say(partial ? words('stopped', { step: latest + 1, total }) : '');
    announce(part('status').textContent);
  }
});

drawBoard(8);
