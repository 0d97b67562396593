// Shows a lesson: seven stops that share one step and one tile. The boards are in board.js. All numbers come from the
// lesson. Text from users only ever goes through textContent and attributes.
const root = element.querySelector('.learn');
const part = (name, within = root) => within.querySelector('.' + name);
const percent = (thousandths) => (thousandths / 10).toFixed(thousandths < 100 ? 1 : 0);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

let lesson = null;
let bornAt = [];      // token position -> the step that drew it, counted from 0
let total = 0, count = 0;
let step = 0, tile = 0, word = 0, stage = 0;
let before = 'empty'; // what was visible when a run was requested

const boards = Object.fromEntries([...root.querySelectorAll('[data-board]')].map((host) => [host.dataset.board, makeBoard(host)]));

const nameOfWord = (one) => (one.kind === 'word' ? one.text : words('word_' + one.kind));
const nameOfStage = (index) => (index === 0 ? words('stage_noise') : index === lesson.times.length - 1
  ? words('stage_clean') : words('stage_time', { time: lesson.times[index].toFixed(2) }));
const knownBefore = (at) => bornAt.filter((born) => born < at).length;
const place = (position) => ({ row: Math.floor(position / lesson.grid) + 1, column: position % lesson.grid + 1, born: bornAt[position] + 1 });

function begin(made) {
  lesson = made;
  total = lesson.asked.length;
  count = lesson.grid ** 2;
  bornAt = new Array(count).fill(0);
  lesson.asked.forEach((positions, at) => positions.forEach((position) => { bornAt[position] = at; }));
  step = Math.round((total - 1) * 0.4);
  tile = lesson.asked.find((positions, at) => at >= step && positions.length > 0)[0]; // steps that plan draw no tile
  stage = Math.min(2, lesson.times.length - 1);
  const shares = lesson.words.map((_, index) => mean(lesson.attention[step].map((row) => row[index])));
  word = lesson.words.reduce((best, one, index) => (one.kind === 'word' && (lesson.words[best].kind !== 'word' || shares[index] > shares[best]) ? index : best), 0);
  for (const board of Object.values(boards)) board.lay(lesson.grid);
  drawOnce();
  draw();
}

function drawOnce() { // everything that depends neither on the step nor on the tile
  part('step-slider').max = Math.max(total, 2);
  part('step-slider').disabled = total === 1;
  part('of-run').textContent = words('of_run', lesson);
  part('counts').replaceChildren(...lesson.asked.map((asked, at) => {
    const bar = node('i', '', asked.length);
    bar.style.setProperty('--share', asked.length / Math.max(...lesson.asked.map((one) => one.length)));
    bar.addEventListener('click', () => choose({ step: at }));
    return bar;
  }));
  part('counts').setAttribute('aria-label', words('counts_alt', { counts: lesson.asked.map((asked) => asked.length).join(', ') }));
  const flows = lesson.guesses.length > 0;
  part('guessed').hidden = part('of-flow').hidden = !flows;
  part('of-diffusion').hidden = flows;
  said('denoising').textContent = words('plain_denoising', { count: lesson.times.length - 1 });
  part('fusion-note').textContent = words('fusion_note', { heads: lesson.heads });
  root.style.setProperty('--states', lesson.noisy.length);
  part('states').replaceChildren(...lesson.noisy.map((_, index) => stateButton(index)));
  part('guesses').replaceChildren(...lesson.guesses.map((_, index) => named(node('canvas', 'tile-view'), words('guesses_alt', { stage: nameOfStage(index) }))));
  part('words').replaceChildren(...lesson.words.map((one, index) => wordButton(one, index)));
  const isSame = lesson.guidance === 1;
  const notes = [words(isSame ? 'guidance_same' : 'guidance_note', { full: lesson.guidance }), lesson.mixed ? words('mixed_note', lesson.mixed) : ''];
  part('guidance-note').textContent = notes.filter(Boolean).join(' ');
}

const said = (stop) => part('plain', root.querySelector('[data-stop=' + stop + ']'));

function named(canvas, text) {
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', text);
  return canvas;
}

function stateButton(index) {
  const button = node('button', 'state');
  button.type = 'button';
  button.setAttribute('aria-label', words('stage_label', { stage: nameOfStage(index) }));
  button.append(node('canvas', 'tile-view'), node('span', 'mono', nameOfStage(index)));
  button.addEventListener('click', () => choose({ stage: index }));
  return button;
}

function wordButton(one, index) {
  const button = node('button', 'word' + (one.kind === 'word' ? '' : ' mark'));
  button.type = 'button';
  button.append(node('span', 'word-text', nameOfWord(one)), node('span', 'word-bar'), node('span', 'word-share mono'));
  button.addEventListener('click', () => choose({ word: index }));
  return button;
}

function choose(change) {
  ({ step, tile, word, stage } = { step, tile, word, stage, ...change });
  step = Math.max(0, Math.min(step, total - 1));
  draw();
}

function draw() {
  drawControl();
  drawTokens();
  drawContext();
  drawTarget();
  drawDenoising();
  drawFusion();
  const now = { step: step + 1 };
  const scale = lesson.scales[step].toFixed(2);
  boards.off.show({ picture: lesson.plain[total - 1], caption: words('board_off', now), pale: (position) => bornAt[position] > step });
  boards.on.show({ picture: lesson.pictures[total - 1], caption: words('board_on', { ...now, scale }), pale: (position) => bornAt[position] > step });
  boards.now.show({ picture: lesson.finished[step], caption: words('board_now', now), given: (position) => bornAt[position] < step });
  boards.end.show({ picture: lesson.pictures[total - 1], caption: words('board_end') });
  said('prediction').textContent = words('plain_prediction', now);
}

function drawControl() {
  const timeline = part('step-slider');
  timeline.value = step + 1;
  timeline.style.setProperty('--at', total > 1 ? step / (total - 1) : 1);
  timeline.setAttribute('aria-valuetext', words('step_value', { step: step + 1, total, known: knownBefore(step + 1), all: count }));
  part('step-shown').textContent = words('step_of', { step: step + 1, total });
  part('earlier').disabled = step === 0;
  part('later').disabled = step === total - 1;
  part('to-birth').textContent = words('tile_born', place(tile));
  part('to-birth').setAttribute('aria-label', words('tile_born', place(tile)) + '. ' + words('to_birth'));
  for (const name of root.querySelectorAll('.tile-name')) name.textContent = words('tile', place(tile));
  for (const view of root.querySelectorAll('.control-tile .tile-view, .tile-large .tile-view')) {
    named(view, words('tile_alt', place(tile)));
    drawTile(view, lesson.noisy.at(-1), tile, lesson.grid);
  }
}

function drawTokens() {
  boards.tokens.show({ picture: lesson.pictures[total - 1], caption: words('board_tokens'), lines: true });
  const values = lesson.tokens[tile], most = Math.max(...values.map(Math.abs), 0.01);
  part('numbers-title').textContent = words('numbers', { count: values.length });
  part('numbers').replaceChildren(...values.map((value) => {
    const bar = node('i', value < 0 ? 'below' : '');
    bar.style.setProperty('--size', Math.abs(value) / most);
    return bar;
  }));
  const ends = { least: Math.min(...values), most: Math.max(...values) };
  part('numbers').setAttribute('aria-label', words('numbers_alt', { count: values.length, ...ends }));
  part('numbers-text').textContent = values.slice(0, 5).map((value) => value.toFixed(2).replace('-', '−')).join('  ') + '  …';
}

function drawContext() {
  const last = lesson.pictures[total - 1];
  const facts = (known) => ({ step: step + 1, known });
  boards.before.show({ picture: lesson.pictures[Math.max(0, step - 1)], caption: words('board_before', facts(knownBefore(step))), cover: 'now', ring: true, sheer: step > 0 && lesson.plan[step - 1][0] > 0 });
  boards.after.show({ picture: step === total - 1 ? last : lesson.pictures[step], caption: words('board_after', facts(knownBefore(step + 1))), cover: 'later', ring: true, sheer: lesson.plan[step][0] > 0 });
  const [planned, ofPlan] = lesson.plan[step];
  const plans = ofPlan > 0 && lesson.plan.at(-1)[0] > 0;
  part('plan-note').hidden = !plans;
  part('plan-note').textContent = !plans ? '' : lesson.asked[step].length
    ? words('plan_text', { all: ofPlan }) : words('plan_step', { step: step + 1, known: planned, all: ofPlan });
  [...part('counts').children].forEach((bar, at) => { bar.className = at === step ? 'now' : ''; });
}

function drawTarget() {
  const values = lesson.foreseen[step];
  const all = lesson.foreseen.flat();
  boards.target.show({
    caption: words('board_target', { step: step + 1 }), values, least: Math.min(...all), most: 1000, ring: true,
    say: (value) => (value / 1000).toFixed(2), early: (position) => bornAt[position] < step,
  });
  const kept = bornAt[tile] < step;
  part('likeness').textContent = (values[tile] / 1000).toFixed(2);
  part('likeness-of').textContent = words(kept ? 'likeness_kept' : 'likeness', { step: (kept ? bornAt[tile] : step) + 1 });
  const means = lesson.foreseen.map((row, at) => mean(row.filter((_, position) => bornAt[position] >= at)));
  const own = lesson.foreseen.slice(0, bornAt[tile] + 1).map((row) => row[tile]);
  drawChart(part('chart'), [{ name: 'line-mean', values: means }, { name: 'line-tile', values: own }], step, total);
  const told = (value) => (value / 1000).toFixed(2);
  part('chart').setAttribute('aria-label', words('chart_alt', { first: told(means[0]), last: told(means.at(-1)), tile: own.map(told).join(', ') }));
}

function drawDenoising() {
  boards.denoising.show({ picture: lesson.noisy[stage], caption: words('board_denoising', { stage: nameOfStage(stage) }), crisp: true });
  [...part('states').children].forEach((button, index) => {
    button.setAttribute('aria-pressed', String(index === stage));
    drawTile(part('tile-view', button), lesson.noisy[index], tile, lesson.grid);
  });
  [...part('guesses').children].forEach((canvas, index) => drawTile(canvas, lesson.guesses[index], tile, lesson.grid));
}

function drawFusion() {
  const rows = lesson.attention[step], column = rows.map((row) => row[word]);
  const ever = lesson.attention.flatMap((all) => all.map((row) => row[word]));
  boards.fusion.show({
    caption: words('board_fusion', { word: nameOfWord(lesson.words[word]) }), values: column, least: Math.min(...ever), most: Math.max(...ever),
    ring: true, say: (value) => percent(value) + ' %', early: (position) => bornAt[position] < step,
  });
  [...part('words').children].forEach((button, index) => {
    const share = rows[tile][index];
    button.setAttribute('aria-pressed', String(index === word));
    button.setAttribute('aria-label', words('word_label', { word: nameOfWord(lesson.words[index]), share: percent(share) }));
    part('word-bar', button).style.setProperty('--share', share / 1000);
    part('word-share', button).textContent = percent(share) + ' %';
  });
  const asked = lesson.asked[step].length ? lesson.asked[step] : rows.map((_, position) => position); // a step that plans reads for all
  const means = lesson.words.map((_, index) => mean(asked.map((position) => rows[position][index])));
  const best = means.indexOf(Math.max(...means));
  part('reads-most').textContent = words('reads_most', { word: '“' + nameOfWord(lesson.words[best]) + '”', share: percent(means[best]) });
}

part('step-slider').addEventListener('input', () => choose({ step: Number(part('step-slider').value) - 1 }));
part('earlier').addEventListener('click', () => choose({ step: step - 1 }));
part('later').addEventListener('click', () => choose({ step: step + 1 }));
part('to-birth').addEventListener('click', () => choose({ step: bornAt[tile] }));
for (const button of part('stops').children) {
  button.addEventListener('click', () => {
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    const heading = root.querySelector('#learn-' + button.dataset.to);
    heading.scrollIntoView({ behavior: calm ? 'auto' : 'smooth' });
    heading.focus({ preventScroll: true });
  });
}

const reading = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    const button = part('stops').querySelector('[data-to=' + target.dataset.stop + ']');
    if (isIntersecting) button.setAttribute('aria-current', 'true');
    else button.removeAttribute('aria-current');
  }
}, { rootMargin: '-45% 0px -55% 0px' }); // the stop near the middle of the window counts as the one being read
for (const chapter of root.querySelectorAll('.chapter')) reading.observe(chapter);

function turn(state) {
  root.dataset.state = state;
  part('making').hidden = state !== 'making';
  part('opening').hidden = state !== 'empty';
  part('walk').hidden = state !== 'ready';
}

function tellProgress({ done, total: pieces, picture }) {
  turn('making');
  part('making-phase').textContent = words('progress_' + Math.min(3, Math.floor((done - 1) * 4 / pieces)));
  part('making-bar').value = done / pieces;
  part('making-picture').src = picture;
  part('making-picture').alt = words('progress_alt');
  part('making-picture').hidden = false;
}

watch('value', () => {
  const told = props.value;
  if (told?.lesson) {
    begin(told.lesson);
    turn('ready');
    part('aloud').textContent = words('ready', { total, all: count });
  } else if (told?.waiting && root.dataset.state === 'making') {
    part('making-phase').textContent = waitingWords(told.waiting);
  } else if (told?.progress && root.dataset.state === 'making') {
    tellProgress(told.progress);
  }
});

document.addEventListener('jepa:lesson', (event) => {
  if (event.detail === 'start') {
    if (root.dataset.state === 'making') return;
    before = root.dataset.state;
    part('making-picture').hidden = true;
    part('making-bar').value = 0;
    part('making-phase').textContent = part('aloud').textContent = words('waiting');
    turn('making');
  } else if (root.dataset.state === 'making') { // it failed, so the page shows again what was there before
    part('aloud').textContent = '';
    turn(before);
  }
});
