// The last finished runs: a thumbnail and the settings of each. Only this browser keeps them; nothing is sent anywhere.
const KEY = 'jepa-studio-history';
const MOST = 12, MAX_CHARACTERS = 60_000, SMALL_SIDE = 160;
const root = element.querySelector('.history');
const strip = element.querySelector('.history-strip');
let isBusy = false; // during a run the stage belongs to that run

const isKept = (item) => typeof item?.frame === 'string' && typeof item.settings?.prompt === 'string'
  && Array.isArray(item.born) && item.born.length === item.grid ** 2;
const load = () => {
  try {
    const found = JSON.parse(stored(KEY) ?? '[]');
    return Array.isArray(found) ? found.filter(isKept).slice(0, MOST) : [];
  } catch {
    return [];
  }
};
let items = load();

function save() { // drops the oldest ones until the rest fits
  for (let count = items.length; count > 0; count -= 1) {
    if (store(KEY, JSON.stringify(items.slice(0, count)))) return;
  }
}

function entry(item) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'kept';
  button.title = item.settings.prompt;
  button.setAttribute('aria-label', words('history_item', { prompt: item.settings.prompt, seed: item.settings.seed }));
  const image = document.createElement('img');
  image.alt = '';
  image.src = 'data:image/png;base64,' + item.frame;
  button.append(image);
  button.addEventListener('click', () => {
    if (isBusy) return;
    props.value = item;
    trigger('pick');
  });
  return button;
}

function draw() {
  root.hidden = items.length === 0;
  strip.replaceChildren(...items.map(entry));
}

async function small(url) { // large pictures would fill the browser's storage
  if (url.length <= MAX_CHARACTERS) return url;
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = document.createElement('canvas');
  canvas.width = SMALL_SIDE;
  canvas.height = Math.round((SMALL_SIDE * image.naturalHeight) / image.naturalWidth);
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL('image/png');
}

document.addEventListener('jepa:finished', async (event) => {
  const { job, n, prompt, seed, settings, grid, seconds, born, frame } = event.detail;
  const url = await small(frame);
  const kept = { still: true, job: 'kept-' + job, i: n - 1, n, prompt, seed, settings, grid, seconds, born, revealed: [], type: 'image/png' };
  if (stored(KEY) !== null) items = load(); // another tab may have added some
  const isOther = (item) => JSON.stringify(item.settings) !== JSON.stringify(settings); // the same settings give the same picture again
  items = [{ ...kept, frame: url.slice(url.indexOf(',') + 1) }, ...items.filter(isOther)].slice(0, MOST);
  save();
  draw();
});
document.addEventListener('jepa:run', (event) => {
  isBusy = event.detail === 'start';
  root.toggleAttribute('data-busy', isBusy);
});
element.querySelector('.history-clear').addEventListener('click', () => {
  items = [];
  store(KEY, '[]');
  draw();
  document.querySelector('#player .player').focus(); // the button is gone
});
draw();
