// The third part of player.js, in the same scope: what is fetched from the run that the server keeps. Steps that were
// lost on the way, the prediction of a step, the energies, and a whole run after a reload or a broken connection.
const RUN_KEY = 'jepa-studio-run';
const MOST_TRIES = 3, RETRY_MS = 1500;
let isFetching = false, isPredicting = false, isMatching = false;
let hasMatch = true;     // false for a run that has no prompt, or whose energies could not be had
let wasStopped = false;  // by the button, so the run is not to come back
let tries = 0, latestOfTry = -1;

function forget() {
  hasMatch = true;
  isMatching = false;
  drawFit();
}

function remember() { // for this tab only, so that two tabs do not take each other's run
  try {
    const isOn = isRunning() && latest < total - 1;
    if (!run.still && run.prompt) sessionStorage.setItem(RUN_KEY, JSON.stringify({ job: run.job, isOn }));
  } catch { /* the browser's memory is off */ }
}

function sayWaiting({ ahead, seconds }) {
  if (!ahead) say(words('waiting'));
  else if (seconds === null) say(words('queued', { ahead }));
  else say(words('queued_for', { ahead, seconds: Math.max(1, Math.round(seconds)) }));
}

// After every step: fetch what is missing, and the energies when there is time.
function lookAround() {
  if (run.still) return;
  fetchMissing();
  matchSteps();
}

async function fetchMissing() {
  const steps = Array.from({ length: latest }, (_, step) => step).filter((step) => !moments[step]);
  if (isFetching || !steps.length) return;
  isFetching = true;
  const { job } = run;
  const answer = await answerOf(server.missing, { job, steps });
  isFetching = false;
  if (answer.error || run.job !== job) return;
  const newest = run;
  for (const delta of answer.deltas) accept(delta);
  run = newest;
  total = newest.n;
  show(shown);
}

async function predict(step) {
  const moment = moments[step];
  if (!moment || moment.predicted || isPredicting || run.still) return;
  isPredicting = true;
  const { job } = run;
  const answer = await answerOf(server.predict, { job, steps: [step] });
  isPredicting = false;
  if (answer.error) { if (run.job === job) say(answer.error); return; }
  moment.predicted = answer.source;
  if (view === 'predicted' && run.job === job) show(shown); // which asks for the step that is shown by now
}

async function matchSteps() {
  const steps = moments.flatMap((moment, step) => (moment && !moment.score && moment.delta.prompt ? [step] : []));
  if (isMatching || !hasMatch || !steps.length) return;
  isMatching = true;
  const { job } = run;
  const answer = await answerOf(server.energies, { job, steps });
  if (run.job !== job) return;
  isMatching = false;
  hasMatch = !answer.error;
  if (answer.error) return;
  steps.forEach((step, place) => { moments[step].score = answer.scores[place]; });
  drawFit();
  matchSteps(); // of the steps that came meanwhile
}

function drawFit() { // the curve of the energy over the timeline, and the shown step's in words
  const points = moments.flatMap((moment, step) => (moment?.score ? [[step, moment.score.energy]] : []));
  root.toggleAttribute('data-curve', points.length > 1);
  const score = moments[shown]?.score;
  part('fit').textContent = score && !isPainting()
    ? words('fit', { words: verdict(score.probability), percent: probable(score.probability), energy: score.energy.toFixed(3) }) : '';
  if (points.length < 2) return;
  const energies = [0, ...points.map(([, energy]) => energy)];
  const low = Math.min(...energies), high = Math.max(...energies), span = high - low || 1;
  const down = (energy) => (8 + (84 * (high - energy)) / span).toFixed(2); // high energies at the top
  const right = (step) => (total > 1 ? (100 * step) / (total - 1) : 0).toFixed(2);
  part('curve-line').setAttribute('d', points.map(([step, energy], place) => (place ? 'L' : 'M') + right(step) + ' ' + down(energy)).join(''));
  part('curve-zero').setAttribute('y1', down(0));
  part('curve-zero').setAttribute('y2', down(0));
  part('curve-dot').setAttribute('d', score ? 'M' + right(shown) + ' ' + down(score.energy) + 'h0' : '');
}

// Best of several: a button for each, which brings the whole run to the stage.
const candidates = part('candidates');
let choice = [];

function drawChoice(pictures) {
  choice = pictures;
  candidates.hidden = !pictures.length;
  candidates.replaceChildren(...pictures.map((one, place) => {
    const button = document.createElement('button');
    button.type = 'button';
    const told = { place: place + 1, seed: one.seed, words: verdict(one.probability), energy: one.energy.toFixed(3) };
    button.title = words('candidate', told);
    button.setAttribute('aria-label', button.title);
    const image = document.createElement('img');
    image.alt = '';
    image.src = 'data:image/png;base64,' + one.frame;
    button.append(image);
    button.addEventListener('click', () => { if (!isRunning() && one.job !== run.job) rejoin(one.job, false, run.job, ''); });
    return button;
  }));
  pressCandidate();
}

function pressCandidate() {
  [...candidates.children].forEach((button, place) => button.setAttribute('aria-pressed', String(choice[place].job === run?.job)));
}

// A run that ended without its last step, though nobody stopped it: the connection broke, or the phone slept.
function comeBack() {
  if (wasStopped) { wasStopped = false; return; }
  tries = latest > latestOfTry ? 1 : tries + 1;
  latestOfTry = latest;
  if (tries > MOST_TRIES) return;
  say(words('coming_back'));
  const again = () => { if (!isRunning()) rejoin(run.job, true); };
  if (!navigator.onLine) window.addEventListener('online', again, { once: true });
  else if (document.hidden) document.addEventListener('visibilitychange', again, { once: true });
  else setTimeout(again, RETRY_MS);
}

// Fetch what the server has of a run; what it does not have yet, it goes on to make.
async function rejoin(job, isOn, shownJob = job, told = words(shownJob === job ? 'welcome_back' : 'from_history')) {
  const answer = await answerOf(server.missing, { job, steps: [] });
  if (answer.error || !answer.deltas.length || isRunning() || (run && run.job !== shownJob)) return false;
  for (const delta of answer.deltas) {
    if (delta.job !== run?.job) begin(delta);
    accept(delta);
  }
  props.value = answer.deltas.at(-1);
  show(latest);
  if (isOn && latest < total - 1) trigger('resume');
  else if (latest < total - 1) say(words('stopped', { step: latest + 1, total }));
  else say(told);
  lookAround();
  return true;
}

document.addEventListener('click', (event) => { if (event.target.closest('#stop')) wasStopped = true; }, { capture: true });
document.addEventListener('jepa:run', (event) => { if (event.detail === 'start') wasStopped = false; });

(function afterReload() {
  let kept = null;
  try { kept = JSON.parse(sessionStorage.getItem(RUN_KEY) ?? 'null'); } catch { /* nothing is kept */ }
  if (typeof kept?.job !== 'string' || new URLSearchParams(location.search).has('prompt')) return; // a link goes first
  rejoin(kept.job, kept.isOn === true).then((isBack) => {
    if (!isBack || !run.settings) return;
    const { seed, ...settings } = run.settings; // the next run shall draw a seed of its own
    document.dispatchEvent(new CustomEvent('jepa:restore', { detail: settings }));
  });
})();
