// Collects the deltas of one generation and shows any step of it. Runs inside Gradio's js_on_load, which provides
// element, trigger, props and watch. Text from users only ever goes through textContent and attributes.
const root = element.querySelector('.player');
const part = (name) => root.querySelector('.' + name);
const picture = part('picture'), tiles = part('tiles'), timeline = part('timeline'), play = part('play');
const MAX_REPLAY_MS = 2400, FRAME_MS = 120;

let job = null;       // the run that is shown
let total = 0;
let prompt = '';
let frames = [];      // step -> data URL; a hole where a delta was lost on the way
let bornAt = [];      // token position -> the step that revealed it
let shown = -1;
let latest = -1;
let timer = null;
let showTiles = true;
let jobBefore = null; // the run that was shown when the current one was asked for

const isRunning = () => root.dataset.run === 'on';
const say = (text) => { part('status').textContent = text; };

function begin(delta) {
  pause();
  job = delta.job; total = delta.n; prompt = delta.prompt;
  frames = []; shown = latest = -1;
  bornAt = new Array(delta.grid * delta.grid).fill(Infinity);
  drawBoard(delta.grid);
  root.dataset.state = 'shown';
  timeline.max = Math.max(total, 2);
  timeline.disabled = play.disabled = false;
  picture.hidden = part('about').hidden = false;
  part('prompt-shown').textContent = prompt;
  part('seed').textContent = delta.seed;
  part('download').download = 'jepa-' + delta.seed + (delta.type === 'image/jpeg' ? '.jpg' : '.png');
}

function drawBoard(grid) {
  tiles.style.setProperty('--grid', grid);
  tiles.replaceChildren(...Array.from({ length: grid * grid }, () => document.createElement('i')));
}

function accept(delta) {
  const following = shown === latest;
  frames[delta.i] = 'data:' + delta.type + ';base64,' + delta.frame;
  for (const position of delta.revealed) bornAt[position] = Math.min(bornAt[position], delta.i);
  latest = Math.max(latest, delta.i);
  if (following) show(latest);
  if (delta.i === total - 1) {
    root.dataset.run = 'off';
    say('Finished in ' + delta.seconds.toFixed(1) + ' s');
  } else if (isRunning()) {
    say('Step ' + (delta.i + 1) + ' of ' + total);
  }
}

function show(step) {
  shown = Math.max(0, Math.min(step, latest));
  let source = shown;
  while (source > 0 && !frames[source]) source -= 1;
  if (frames[source]) picture.src = part('download').href = frames[source];
  const place = 'step ' + (shown + 1) + ' of ' + total;
  picture.alt = 'Picture of "' + prompt + '", ' + place;
  timeline.value = shown + 1;
  timeline.setAttribute('aria-valuetext', place);
  timeline.style.setProperty('--at', total > 1 ? shown / (total - 1) : 1);
  part('counter').textContent = (shown + 1) + ' / ' + total;
  drawTokens();
}

function drawTokens() {
  const last = shown === total - 1;
  let known = 0, fresh = 0;
  bornAt.forEach((step, position) => {
    known += step <= shown;
    fresh += step === shown;
    const name = step > shown ? 'unknown' : step === shown && !last ? 'new' : '';
    tiles.children[position].className = showTiles ? name : '';
  });
  part('tokens').textContent = fresh + ' new, ' + known + ' of ' + bornAt.length + ' tokens known';
}

function pause() {
  clearInterval(timer);
  timer = null;
  play.setAttribute('aria-label', 'Play the steps');
  delete root.dataset.playing;
}

function replay() {
  if (shown >= latest) show(0);
  play.setAttribute('aria-label', 'Pause');
  root.dataset.playing = 'yes';
  timer = setInterval(() => {
    if (shown >= latest) { if (!isRunning()) pause(); return; }
    show(shown + 1);
  }, Math.min(FRAME_MS, MAX_REPLAY_MS / total));
}

play.addEventListener('click', () => { if (timer) pause(); else replay(); });
timeline.addEventListener('input', () => { pause(); show(Number(timeline.value) - 1); });
root.addEventListener('keydown', (event) => {
  const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!move || event.target === timeline || latest < 0) return;  // the range input moves by itself
  event.preventDefault();
  pause();
  show(shown + move);
});
part('tiles-toggle').addEventListener('click', (event) => {
  showTiles = !showTiles;
  event.currentTarget.setAttribute('aria-pressed', String(showTiles));
  show(shown);
});
part('reuse').addEventListener('click', () => trigger('reuse'));
part('to-match').addEventListener('click', () => trigger('match'));

watch('value', () => {
  const delta = props.value;
  if (!delta || !delta.job) return;
  if (delta.job !== job) begin(delta);
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
    jobBefore = job;
    say('Waiting for the model');
    bringIntoView();
  } else if (wasRunning) {
    const partial = job !== jobBefore && latest < total - 1;
    say(partial ? 'Stopped at step ' + (latest + 1) + ' of ' + total + ', the picture so far is kept' : '');
  }
});

drawBoard(8);
