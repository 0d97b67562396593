// The third part of player.js, in the same scope. It fetches what the server keeps of a run: steps that were lost on the
// way, the prediction of a step, the energies, and the whole run after a reload or a broken connection.
const RUN_KEY = 'jepa-studio-run';
const MOST_TRIES = 3, RETRY_MS = 1500;
let isFetching = false, isPredicting = false, isMatching = false;
let hasMatch = true;     // false for a run without a prompt, or if its energies could not be fetched
let wasStopped = false;  // with the button, so the run must not come back
let tries = 0, latestOfTry = -1;

function forget() {
  hasMatch = true;
  isMatching = false;
  drawFit();
}

function remember() { // for this tab only, so that two tabs do not take each other's runs
  try {
    const isOn = isRunning() && latest < total - 1;
    if (!run.still && run.prompt && run.job !== props.example) {
      const { settings, prompt, seed } = run;
      sessionStorage.setItem(RUN_KEY, JSON.stringify({ job: run.job, isOn, settings: { ...settings, prompt, seed } }));
    }
  } catch { /* the browser's storage is off */ }
}

// After every step: fetch missing steps and the energies of new ones.
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
  if (answer.deltas.length) lookAround(); // others may have been lost meanwhile, and these have no energies yet
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
  if (view === 'predicted' && run.job === job) show(shown); // this asks for the prediction of the step that is visible by now
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
  matchSteps(); // for the steps that arrived meanwhile
}

function drawFit() { // the curve of the energies over the timeline, and the energy of the visible step in words
  const points = moments.flatMap((moment, step) => (moment?.score ? [[step, moment.score.energy]] : []));
  root.toggleAttribute('data-curve', points.length > 1);
  const score = moments[shown]?.score;
  part('fit').textContent = score && !isPainting()
    ? words('fit', { words: verdict(score.probability), percent: probable(score.probability), energy: score.energy.toFixed(3) }) : '';
  if (points.length < 2) return;
  const energies = [0, ...points.map(([, energy]) => energy)];
  const low = Math.min(...energies), high = Math.max(...energies), span = high - low || 1;
  const down = (energy) => (8 + (84 * (high - energy)) / span).toFixed(2); // high energies are at the top
  const right = (step) => (total > 1 ? (100 * step) / (total - 1) : 0).toFixed(2);
  part('curve-line').setAttribute('d', points.map(([step, energy], place) => (place ? 'L' : 'M') + right(step) + ' ' + down(energy)).join(''));
  part('curve-zero').setAttribute('y1', down(0));
  part('curve-zero').setAttribute('y2', down(0));
  part('curve-dot').setAttribute('d', score ? 'M' + right(shown) + ' ' + down(score.energy) + 'h0' : '');
}

// Best of several: each picture is a button that brings its whole run to the stage.
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
    button.addEventListener('click', () => { if (!isRunning() && one.job !== run.job) bring(one.job); });
    return button;
  }));
  pressCandidate();
}

async function bring(job) { // the server keeps the latest runs alone
  const answer = await rejoin(job, false, run.job, '');
  if (!answer?.error) return;
  say(answer.error);
  announce(answer.error);
}

function pressCandidate() {
  [...candidates.children].forEach((button, place) => button.setAttribute('aria-pressed', String(choice[place].job === run?.job)));
}

// A run ended before its last step although nobody stopped it: the connection broke, or the phone went to sleep.
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

// Fetches the steps that the server has of a run. If isOn, the server then makes the remaining ones. Returns whether they
// are shown, or { error }.
async function rejoin(job, isOn, shownJob = job, told = words(shownJob === job ? 'welcome_back' : 'from_history')) {
  const answer = await answerOf(server.missing, { job, steps: [] });
  if (isRunning() || (run && run.job !== shownJob)) return false;
  if (answer.error) return answer;
  if (!answer.deltas.length) return false;
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

// The server no longer knows a run that it was asked for, as it was started again, or it cannot be reached.
function sayLost(settings) {
  say(words('lost'));
  announce(words('lost'));
  const again = part('again');
  again.hidden = false;
  again.onclick = () => document.dispatchEvent(new CustomEvent('jepa:again', { detail: settings }));
}
document.addEventListener('jepa:run', (event) => { if (event.detail === 'start') part('again').hidden = true; });

// A finished run of these weights, for visitors who have none of their own yet.
function showExample() {
  if (!props.example) return;
  rejoin(props.example, false, undefined, words('example')).then((isShown) => {
    if (isShown === true && !matchMedia('(prefers-reduced-motion: reduce)').matches) { show(0); replay(); }
  });
}

(function afterReload() {
  let kept = null;
  try { kept = JSON.parse(sessionStorage.getItem(RUN_KEY) ?? 'null'); } catch { /* the browser kept nothing */ }
  if (new URLSearchParams(location.search).has('prompt') && !isReload) return; // a link that is opened has priority
  if (typeof kept?.job !== 'string') { showExample(); return; }
  rejoin(kept.job, kept.isOn === true).then((answer) => {
    const isBack = answer === true;
    if (!isBack && kept.isOn && !run) sayLost(kept.settings);
    if (!isBack || !run.settings) return;
    const { seed, ...settings } = run.settings; // the next run is to draw its own seed
    document.dispatchEvent(new CustomEvent('jepa:restore', { detail: settings }));
  });
})();
