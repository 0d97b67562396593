// Collects the rows of a table as they arrive, draws part of it and writes all of it as CSV. File names and captions
// come from users and only ever go through textContent and attributes.
const root = element.querySelector('.many');
const part = (name) => root.querySelector('.many-' + name);
const MOST_ROWS = 50, MOST_COLUMNS = 50, REDRAW_MS = 400;
const ORDERS = ['given', 'best', 'doubtful', 'caption'];
let table = null;         // the latest value
let energies = [], probabilities = []; // one Float32Array for each row so far
let right = new Map();    // picture -> set of its captions
let order = 'given', chosen = 0;
let drawnRows = 0, drawnAt = 0;

function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

function begin(value) {
  energies = [];
  probabilities = [];
  drawnRows = 0;
  right = new Map();
  order = 'given';
  for (const [picture, caption] of value.right ?? []) right.set(picture, (right.get(picture) ?? new Set()).add(caption));
  part('empty').hidden = true;
  part('scroll').hidden = part('tools').hidden = true;
  part('figures').replaceChildren();
  part('note').textContent = '';
  part('progress').hidden = false;
  drawProblems(value.problems ?? []);
}

function drawProblems(problems) {
  part('problems').hidden = problems.length === 0;
  part('problems').querySelector('summary').textContent = words('left_out', { count: problems.length });
  part('problems').querySelector('ul').replaceChildren(
    ...problems.map(({ name, reason }) => node('li', '', `${name}: ${reason}`)));
}

const bestOf = (row) => energies[row].reduce((best, energy, at) => energy < energies[row][best] || !(energies[row][best] <= Infinity) ? at : best, 0);

// The share of lists in which a right answer comes first, or among the first five. Each list holds the energies and the
// places of its right answers.
function recalls(lists) {
  const ranks = lists.map(({ values, places }) => {
    const own = Math.min(...places.map((at) => (Number.isNaN(values[at]) ? Infinity : values[at])));
    return own === Infinity ? Infinity : values.filter((energy, at) => energy < own && !places.includes(at)).length;
  });
  const share = (most) => Math.round(100 * ranks.filter((rank) => rank < most).length / ranks.length);
  return { first: share(1), five: share(5), count: ranks.length };
}

function drawFigures() {
  const lines = [];
  const isOver = ['done', 'stopped'].includes(root.dataset.state) || table.stage === 'done';
  const scored = isOver ? [...right].filter(([picture]) => energies[picture]) : []; // shares of only some rows would mislead
  if (scored.length) lines.push(words('recall', recalls(scored.map(([picture, captions]) => ({ values: energies[picture], places: [...captions] })))));
  if (scored.length && table.stage === 'done' && !table.best) {
    const owners = new Map();
    for (const [picture, captions] of right) for (const caption of captions) owners.set(caption, [...(owners.get(caption) ?? []), picture]);
    const columns = [...owners].map(([caption, places]) => ({ values: energies.map((row) => row[caption]), places }));
    lines.push(words('recall_back', recalls(columns)));
  }
  if (table.best) lines.push(words('quick', { best: table.best }));
  part('figures').replaceChildren(...lines.map((line) => node('p', '', line)));
}

function orderedRows() {
  const rows = energies.map((_, row) => row);
  const key = {
    best: (row) => energies[row][bestOf(row)],
    doubtful: (row) => -Math.max(-Infinity, ...[...(right.get(row) ?? [])].map((at) => energies[row][at])),
    caption: (row) => energies[row][chosen],
  }[order];
  if (!key) return rows;
  const keys = rows.map(key).map((value) => (Number.isNaN(value) ? Infinity : value));
  return rows.sort((one, other) => keys[one] - keys[other] || one - other);
}

// If there are too many captions, the table shows the chosen one, then the best one of each picture, then the first ones.
function shownColumns(rows) {
  const all = table.captions.map((_, column) => column);
  if (all.length <= MOST_COLUMNS) return all;
  const wanted = new Set([...(order === 'caption' ? [chosen] : []), ...rows.map(bestOf), ...all]);
  return [...wanted].slice(0, MOST_COLUMNS);
}

function cell(row, column, best) {
  const probability = probabilities[row][column], energy = energies[row][column];
  if (Number.isNaN(energy)) return node('td', 'many-skipped', '·');
  const made = node('td', '', String(Math.round(probability * 100)));
  made.style.setProperty('--heat', probability.toFixed(3));
  made.title = words('cell', { caption: table.captions[column], percent: probable(probability), energy: energy.toFixed(4) });
  made.classList.toggle('many-best', column === best);
  made.classList.toggle('many-right', right.get(row)?.has(column) ?? false);
  return made;
}

function header(columns) {
  const line = node('tr');
  line.append(node('th', 'many-corner', words('picture')));
  for (const column of columns) {
    const head = node('th');
    head.scope = 'col';
    const button = node('button', 'many-by', table.captions[column]);
    button.type = 'button';
    button.title = words('by_caption', { caption: table.captions[column] });
    button.addEventListener('click', () => { chosen = column; order = 'caption'; draw(); });
    if (order === 'caption' && column === chosen) head.setAttribute('aria-sort', 'ascending');
    head.append(button);
    line.append(head);
  }
  return line;
}

function draw() {
  const rows = orderedRows().slice(0, MOST_ROWS), columns = shownColumns(rows);
  const head = node('thead'), body = node('tbody');
  head.append(header(columns));
  for (const row of rows) {
    const line = node('tr'), name = node('th', 'many-name');
    name.scope = 'row';
    const thumb = node('img');
    thumb.src = 'data:image/jpeg;base64,' + table.thumbs[row];
    thumb.alt = '';
    const label = node('div');
    label.append(thumb, node('span', '', table.names[row].split('/').at(-1)));
    name.append(label);
    name.title = table.names[row];
    const best = bestOf(row);
    line.append(name, ...columns.map((column) => cell(row, column, best)));
    body.append(line);
  }
  part('table').replaceChildren(head, body);
  drawnRows = rows.length;
  drawnAt = performance.now();
  part('scroll').hidden = part('tools').hidden = rows.length === 0;
  const orders = ORDERS.filter((name) => (name !== 'doubtful' || right.size) && (name !== 'caption' || order === 'caption'));
  part('sort').replaceChildren(...orders.map((name) => Object.assign(node('option', '', words('sort_' + name)), { value: name })));
  part('sort').value = order;
  const isCut = rows.length < table.total || columns.length < table.captions.length;
  const shown = { rows: rows.length, pictures: table.total, columns: columns.length, captions: table.captions.length };
  part('note').textContent = (isCut && table.stage === 'done' ? words('shown', shown) + ' ' : '') + words('legend');
  drawFigures();
}

function csv() {
  const quote = (text) => { // a spreadsheet would run text that starts with = + - @ as a formula
    const safe = /^[=+\-@\t\r]/.test(text) ? "'" + text : text;
    return /[",\n\r]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
  };
  const captions = table.captions.map(quote);
  const lines = energies.map((row, picture) => captions.map((caption, column) => {
    const facts = Number.isNaN(row[column]) ? ',' : `${row[column].toFixed(6)},${probabilities[picture][column].toFixed(6)}`;
    return `${quote(table.names[picture])},${caption},${facts}\r\n`;
  }).join('')); // one string for each picture, because a million lines would be too long for one
  return new Blob(['picture,caption,energy,probability\r\n', ...lines], { type: 'text/csv' });
}

part('csv').addEventListener('click', () => {
  const link = node('a');
  link.href = URL.createObjectURL(csv());
  link.download = 'matches.csv';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
part('sort').addEventListener('change', () => { order = part('sort').value; draw(); });

function say() {
  const { stage, done, total, ahead } = table;
  part('bar').value = total ? done / total : 0;
  part('progress').hidden = stage === 'done';
  part('status').textContent = stage === 'done'
    ? words('finished', { pictures: total, captions: table.captions.length })
    : words(stage, { done, total, ahead });
  root.dataset.state = stage;
}

watch('value', () => {
  const value = props.value;
  if (!value?.run) return;
  const isNew = table?.run !== value.run, wasReading = ['waiting', 'reading'].includes(table?.stage);
  table = value;
  if (isNew || wasReading) begin(value);
  for (let row = energies.length; row < (value.energies?.length ?? 0); row++) {
    energies.push(unpacked(value.energies[row]));
    probabilities.push(unpacked(value.probabilities[row]));
  }
  const isWindowFull = order === 'given' && drawnRows === MOST_ROWS; // later rows change nothing that is visible
  const isDue = !drawnRows || (!isWindowFull && performance.now() - drawnAt > REDRAW_MS);
  if (energies.length && (isDue || value.stage === 'done')) draw();
  say();
});

document.addEventListener('jepa:table-end', () => { // stopped, or ended by an error that is shown elsewhere
  if (!table || root.dataset.state === 'done' || root.dataset.state === 'stopped') return;
  part('progress').hidden = true;
  root.dataset.state = 'stopped';
  if (energies.length) draw();
  part('status').textContent = table.stage === 'scoring' ? words('stopped', { done: energies.length, total: table.total }) : '';
});
