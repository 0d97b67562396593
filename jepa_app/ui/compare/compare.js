// Draws the grid and fills its cells as they arrive. Text from users only ever goes through textContent and canvas text.
const root = element.querySelector('.grid-of-pictures');
const table = root.querySelector('.grid-table');
const status = root.querySelector('.grid-status');
const FIELDS = ['row', 'column', 'prompt', 'seed', 'steps', 'guidance', 'temperature', 'seconds'];
let plan = null, run = null, stopped = null, cells = [];

function begin(grid) {
  plan = grid;
  cells = grid.rows.map(() => new Array(grid.columns.length).fill(null));
  const head = node('tr');
  head.append(node('td'), ...grid.columns.map((text) => Object.assign(node('th', '', text), { scope: 'col' })));
  const body = grid.rows.map((text) => {
    const line = node('tr');
    line.append(Object.assign(node('th', '', text), { scope: 'row' }));
    grid.columns.forEach(() => line.append(node('td')));
    return line;
  });
  table.replaceChildren(head, ...body);
  root.querySelector('.grid-scroll').hidden = false;
  root.querySelector('.grid-empty').hidden = true;
  root.querySelector('.grid-actions').hidden = true;
  root.dataset.state = 'running';
}

const size = () => plan.rows.length * plan.columns.length;

function end(state, told) {
  root.dataset.state = state;
  root.querySelector('.grid-actions').hidden = !cells.flat().some(Boolean);
  status.textContent = told;
}

function changes(cell) {
  const parts = [[plan.x, plan.columns[cell.column]], [plan.y, plan.rows[cell.row]]];
  const changing = parts.filter(([axis]) => axis !== 'none');
  return changing.map(([axis, value]) => words('axis_value', { axis: words(axis), value })).join(words('comma'));
}

function fill(cell) {
  cells[cell.row][cell.column] = cell;
  const place = table.rows[cell.row + 1].cells[cell.column + 1];
  const picture = place.firstChild ?? place.appendChild(node('img'));
  picture.src = 'data:image/png;base64,' + cell.frame;
  picture.alt = words('alt', { prompt: cell.prompt, changes: changes(cell), step: cell.i + 1, total: cell.n });
  place.dataset.done = cell.i === cell.n - 1;
}

function save(blob, file) {
  const link = node('a');
  link.href = URL.createObjectURL(blob);
  link.download = file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function csv() {
  const quote = (value) => {
    const text = String(value);  // a spreadsheet would run text that starts with = + - @ as a formula
    const safe = typeof value === 'string' && /^[=+\-@\t\r]/.test(text) ? "'" + text : text;
    return /[",\n\r]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
  };
  const made = cells.flat().filter(Boolean);
  const lines = made.map((cell) => FIELDS.map((field) => quote(
    field === 'row' ? plan.rows[cell.row] : field === 'column' ? plan.columns[cell.column] : cell[field])).join(','));
  return [FIELDS.join(','), ...lines].join('\r\n') + '\r\n';
}

function paint() {
  const side = 160, gap = 10, left = plan.y === 'none' ? gap : 150, top = plan.x === 'none' ? gap : 64;
  const canvas = node('canvas');
  canvas.width = left + plan.columns.length * (side + gap);
  canvas.height = top + plan.rows.length * (side + gap);
  const brush = canvas.getContext('2d');
  brush.fillStyle = 'white';
  brush.fillRect(0, 0, canvas.width, canvas.height);
  brush.imageSmoothingEnabled = false;
  brush.fillStyle = '#17201c';
  brush.font = '14px sans-serif';
  const write = (text, x, y, width) => {
    const pieces = text.split(/\s+/);
    let line = '', at = y;
    for (const word of pieces) {
      if (line && brush.measureText(line + ' ' + word).width > width) { brush.fillText(line, x, at); line = word; at += 17; }
      else line = line ? line + ' ' + word : word;
    }
    brush.fillText(line, x, at, width);
  };
  plan.columns.forEach((text, column) => write(text, left + column * (side + gap), 20, side));
  plan.rows.forEach((text, row) => write(text, gap, top + row * (side + gap) + side / 2, left - 2 * gap));
  table.querySelectorAll('img').forEach((picture) => {
    const row = picture.closest('tr').rowIndex - 1, column = picture.closest('td').cellIndex - 1;
    brush.drawImage(picture, left + column * (side + gap), top + row * (side + gap), side, side);
  });
  canvas.toBlob((blob) => save(blob, 'jepa-grid.png'));
}

root.querySelector('.grid-picture').addEventListener('click', paint);
root.querySelector('.grid-csv').addEventListener('click', () => save(new Blob([csv()], { type: 'text/csv' }), 'jepa-grid.csv'));

watch('value', () => {
  const delta = props.value;
  if (!delta?.grid) return;
  if (delta.run !== run) begin(delta.grid);
  run = delta.run;
  delta.cells.forEach(fill);
  if (delta.done) { end('done', words('finished', { count: delta.cells.length })); return; }
  if (stopped === run) { endEarly(); return; } // cells that were on their way
  root.dataset.state = 'running'; // also if the end of the grid before it was told late
  const isMaking = cells.flat().some(Boolean);
  status.textContent = delta.waiting && !isMaking ? waitingWords(delta.waiting) : words('making', { count: size() });
});

function endEarly() {
  const whole = cells.flat().filter((cell) => cell && cell.i === cell.n - 1);
  end('stopped', words('stopped', { count: whole.length, all: size() }));
}

for (const told of ['jepa:grid-stop', 'jepa:grid-end']) { // the second also after an error that is shown elsewhere
  document.addEventListener(told, () => {
    if (root.dataset.state !== 'running') return;
    if (told === 'jepa:grid-stop') stopped = run;
    endEarly();
  });
}
