// The second part of player.js, in the same scope. A visitor can continue from any step, or paint over a part and have
// it redone. Both ask the server for a run that begins with a kept one. The earlier steps stay on the timeline.
const paint = part('paint'), stage = part('stage');
let asked = null;        // what the requested run begins with: { job, step }
let marked = null;       // the painted positions; null if nobody is painting
let ring = true;         // whether the tokens next to the marked ones are redone too
let cursor = 0;          // the position of the keyboard's cursor
let brush = null;        // true: the pointer marks; false: it erases; null: it is up

const isPainting = () => marked !== null;
const isWhole = (step) => momentOf(step).born.every((born) => born !== Infinity);

function startsFrom(delta) {
  const kept = asked && asked.job === run?.job && delta.i === asked.step + 1 ? moments.slice(0, delta.i) : [];
  asked = null;
  return kept;
}

function ask(redo) {
  asked = { job: run.job, step: shown };
  props.value = { ...momentOf(shown).delta, job: run.job, edit: { job: run.job, step: shown, redo, ring } };
  trigger('edit');
}

function drawSteering() {
  const isStill = root.hasAttribute('data-still');
  part('go-on').hidden = isStill || isRunning() || isWhole(shown);
  part('go-on').textContent = words('go_on', { step: shown + 1 });
  part('redo').hidden = isStill || isRunning();
}

function startPainting(around = [], fromOutside = false) {
  if (latest < 0 || isRunning()) return;
  pause();
  marked = new Set(around);
  ring = around.length === 0;
  brush = null;
  cursor = Math.floor(run.grid / 2) * run.grid + Math.floor(run.grid / 2);
  paint.hidden = false;
  part('paint-room').hidden = !fromOutside || around.length > 0;
  root.dataset.painting = 'yes';
  picture.src = momentOf(shown).source;
  drawTokens();
  root.focus({ preventScroll: true });
  announce(words('paint_help') + ' ' + words('paint_keys'));
}

function stopPainting() {
  if (!isPainting()) return;
  marked = null;
  paint.hidden = true;
  delete root.dataset.painting;
  if (latest >= 0) show(shown);
}

function near(position) { // whether a marked position is next to this one
  const grid = run.grid, row = Math.floor(position / grid), column = position % grid;
  return [...marked].some((other) => Math.abs(Math.floor(other / grid) - row) <= 1 && Math.abs((other % grid) - column) <= 1);
}

function drawMarks() {
  [...tiles.children].forEach((tile, position) => {
    const isUnknown = momentOf(shown).born[position] === Infinity; // will be made in any case
    tile.className = isUnknown ? 'unknown' : marked.has(position) ? 'marked' : ring && near(position) ? 'ring' : '';
    tile.classList.toggle('cursor', position === cursor && brush === null);
  });
  part('paint-go').disabled = marked.size === 0;
  part('paint-go').textContent = words('paint_go', { count: marked.size });
}

function tileAt(event) {
  const box = tiles.getBoundingClientRect(), grid = run.grid;
  const column = Math.floor(((event.clientX - box.left) / box.width) * grid);
  const row = Math.floor(((event.clientY - box.top) / box.height) * grid);
  return row < 0 || column < 0 || row >= grid || column >= grid ? null : row * grid + column;
}

function dab(event) {
  const position = tileAt(event);
  if (position === null) return;
  if (brush) marked.add(position); else marked.delete(position);
  cursor = position;
  drawMarks();
}

stage.addEventListener('pointerdown', (event) => {
  if (!isPainting()) return;
  event.preventDefault();
  const position = tileAt(event);
  brush = position !== null && !marked.has(position);
  stage.setPointerCapture(event.pointerId);
  dab(event);
});
stage.addEventListener('pointermove', (event) => { if (isPainting() && brush !== null) dab(event); });
for (const end of ['pointerup', 'pointercancel']) {
  stage.addEventListener(end, () => { if (isPainting()) { brush = null; drawMarks(); } });
}

function moveCursor(down, right) {
  const grid = run.grid;
  const row = Math.min(grid - 1, Math.max(0, Math.floor(cursor / grid) + down));
  const column = Math.min(grid - 1, Math.max(0, (cursor % grid) + right));
  cursor = row * grid + column;
  brush = null;
  drawMarks();
  sayTile();
}

function sayTile() {
  const row = Math.floor(cursor / run.grid) + 1, column = (cursor % run.grid) + 1;
  announce(words(marked.has(cursor) ? 'tile_marked' : 'tile_free', { row, column }), 100);
}

function toggleTile() {
  if (marked.has(cursor)) marked.delete(cursor); else marked.add(cursor);
  drawMarks();
  sayTile();
}

const PAINT_KEYS = {
  ArrowLeft: () => moveCursor(0, -1),
  ArrowRight: () => moveCursor(0, 1),
  ArrowUp: () => moveCursor(-1, 0),
  ArrowDown: () => moveCursor(1, 0),
  ' ': toggleTile,
  Enter: () => { if (marked.size) ask([...marked]); },
  Escape: () => { stopPainting(); root.focus(); },
};

part('go-on').addEventListener('click', () => ask([]));
part('redo').addEventListener('click', () => startPainting());
part('paint-go').addEventListener('click', () => ask([...marked]));
part('paint-clear').addEventListener('click', () => { marked.clear(); ring = true; drawMarks(); });
part('paint-leave').addEventListener('click', () => { stopPainting(); part('redo').focus(); });
part('paint-room').addEventListener('click', () => document.dispatchEvent(new CustomEvent('jepa:room')));

// The server has taken in a picture from outside to begin with. It counts as a run of one step.
document.addEventListener('jepa:begin', (event) => {
  if (isRunning()) return;
  const { delta, around } = event.detail;
  asked = null;
  props.value = delta;
  if (delta.job !== run?.job) { begin(delta); accept(delta); }
  show(0);
  say('');
  bringIntoView();
  startPainting(around, true);
  lookAround();
});
