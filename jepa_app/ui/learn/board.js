// Boards of tiles, single tiles and the line chart of a lesson. Every board is a radio group. A tile that is chosen on
// one board, with the pointer or the arrow keys, is chosen on all of them.
const SVG = 'http://www.w3.org/2000/svg';

function makeBoard(host) {
  const picture = document.createElement('img'), group = document.createElement('div');
  const caption = host.parentElement.querySelector('figcaption');
  group.className = 'board-tiles';
  group.setAttribute('role', 'radiogroup');
  host.append(picture, group);
  let grid = 0;

  function lay(side) {
    grid = side;
    host.style.setProperty('--grid', grid);
    group.replaceChildren(...Array.from({ length: grid * grid }, (_, position) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.setAttribute('role', 'radio');
      button.addEventListener('click', () => choose({ tile: position }));
      return button;
    }));
  }

  const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  group.addEventListener('keydown', (event) => {
    const move = MOVES[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const row = Math.floor(tile / grid) + move[0], column = tile % grid + move[1];
    if (row < 0 || column < 0 || row >= grid || column >= grid) return;
    choose({ tile: row * grid + column });
    group.children[tile].focus({ preventScroll: true });
  });

  // cover: 'now' hides the tiles of this step and of later ones, 'later' only those of later ones. ring marks the tiles
  // of this step. sheer lets a plan show through hidden tiles. values colour the tiles between least and most. early,
  // given and pale tell which tiles get that look.
  function show({ picture: source, caption: text, cover, ring, sheer, lines, crisp, given, pale, values, least, most, say, early }) {
    caption.textContent = text;
    picture.hidden = !source;
    if (source) picture.src = source;
    picture.alt = source ? text : '';
    host.classList.toggle('lined', Boolean(lines));
    host.classList.toggle('crisp', Boolean(crisp));
    host.classList.toggle('sheer', Boolean(sheer));
    group.setAttribute('aria-label', words('choose', { board: text }));
    const first = cover === 'now' ? step : cover === 'later' ? step + 1 : total;
    [...group.children].forEach((button, position) => {
      const born = bornAt[position], value = values?.[position], chosen = position === tile;
      const heat = values ? (value - least) / Math.max(1, most - least) : 0;
      button.className = (born >= first ? 'masked' : '') + (ring && born === step ? ' asked' : '') + (values ? ' heat' : '')
        + (heat > 0.5 ? ' second-half' : '') + (early?.(position) ? ' early' : '')
        + (given?.(position) ? ' given' : '') + (pale?.(position) ? ' pale' : '');
      if (values) button.style.setProperty('--heat', heat);
      button.setAttribute('aria-checked', String(chosen));
      button.tabIndex = chosen ? 0 : -1;
      const label = words(values ? 'tile_value' : 'tile_plain', { ...place(position), value: values && say(value) });
      button.setAttribute('aria-label', label);
      button.title = values ? say(value) : '';
    });
    if (values) legend(caption, say(least), say(most));
  }

  return { lay, show };
}

function legend(caption, least, most) {
  const bar = document.createElement('span'), scale = document.createElement('span');
  scale.className = 'scale';
  bar.className = 'scale-bar';
  scale.append(least, bar, most);
  caption.append(scale);
}

const sheets = new Map(); // data URL -> picture, for the current lesson

function sheet(source) {
  if (!sheets.has(source)) {
    if (sheets.size > 64) sheets.clear();
    const picture = new Image();
    picture.src = source;
    sheets.set(source, picture.decode().then(() => picture));
  }
  return sheets.get(source);
}

async function drawTile(canvas, source, position, grid) {
  canvas.dataset.position = position;
  const picture = await sheet(source);
  if (canvas.dataset.position !== String(position)) return; // the visitor has chosen another tile meanwhile
  const side = picture.naturalWidth / grid;
  canvas.width = canvas.height = side;
  canvas.getContext('2d').drawImage(picture, position % grid * side, Math.floor(position / grid) * side, side, side, 0, 0, side, side);
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Draws lines of values, in thousandths, over the steps and marks the current step.
function drawChart(host, lines, now, steps) {
  const width = 320, height = 150, left = 34, right = 8, top = 8, bottom = 22;
  const lowest = Math.floor(Math.min(...lines.flatMap((line) => line.values)) / 100) * 100;
  const x = (at) => left + (steps > 1 ? at / (steps - 1) : 0.5) * (width - left - right);
  const y = (value) => top + (1000 - value) / Math.max(1, 1000 - lowest) * (height - top - bottom);
  const drawing = shape('svg', { viewBox: '0 0 ' + width + ' ' + height, 'aria-hidden': 'true' });
  const write = (text, at, anchor) => {
    const made = shape('text', { x: at[0], y: at[1], 'text-anchor': anchor });
    made.textContent = text;
    drawing.append(made);
  };
  for (const value of [lowest, (lowest + 1000) / 2, 1000]) {
    drawing.append(shape('line', { x1: left, x2: width - right, y1: y(value), y2: y(value), class: 'rule' }));
    write((value / 1000).toFixed(2), [left - 6, y(value) + 4], 'end');
  }
  write('1', [x(0), height - 6], 'middle');
  write(words('chart_steps'), [(left + width - right) / 2, height - 6], 'middle');
  write(steps, [x(steps - 1), height - 6], 'end');
  drawing.append(shape('line', { x1: x(now), x2: x(now), y1: top, y2: height - bottom, class: 'now' }));
  for (const { name, values } of lines) {
    drawing.append(shape('polyline', { points: values.map((value, at) => x(at) + ',' + y(value)).join(' '), class: name }));
    const last = Math.min(now, values.length - 1);
    drawing.append(shape('circle', { cx: x(last), cy: y(values[last]), r: 4, class: name }));
  }
  host.replaceChildren(drawing);
}
