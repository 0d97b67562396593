// The last part of player.js, in the same scope: what a visitor can download. The browser makes pictures and the trace
// itself. For an animation it sends the frames to the server, which encodes them and keeps nothing.
const keepSettings = part('keep-settings').querySelector('input');
const exportMenu = part('export');
const KEEP_KEY = 'jepa-studio-keep-settings';
const SEE_THROUGH_KEY = 'jepa-studio-see-through';
const PNG_HEADER = 33; // bytes of the signature and the first chunk; text may follow them

keepSettings.checked = stored(KEEP_KEY) !== 'no';
seeThrough.checked = stored(SEE_THROUGH_KEY) === 'yes';
seeThrough.addEventListener('change', () => {
  store(SEE_THROUGH_KEY, seeThrough.checked ? 'yes' : 'no');
  if (latest >= 0) show(shown);
});
keepSettings.addEventListener('change', () => store(KEEP_KEY, keepSettings.checked ? 'yes' : 'no'));
for (const item of exportMenu.querySelectorAll('[data-kind]')) {
  const kind = item.dataset.kind;
  item.hidden = !['json', 'png', ...props.kinds].includes(kind);
  item.addEventListener('click', () => { exportMenu.open = false; exportMenu.firstElementChild.focus(); takeAway(kind); });
}
exportMenu.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || !exportMenu.open) return;
  exportMenu.open = false;
  exportMenu.firstElementChild.focus();
});
document.addEventListener('click', (event) => { if (!exportMenu.contains(event.target)) exportMenu.open = false; });

const stem = (step) => 'jepa-' + run.seed + (step < total - 1 ? '-step-' + String(step + 1).padStart(2, '0') : '');
const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

function crc32(bytes) { // as in the PNG standard
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

// A copy of a PNG with the settings in a text chunk. Such a chunk is Latin-1, so the JSON is written in ASCII.
function withSettings(png, settings) {
  const json = JSON.stringify(settings).replace(/[^ -~]/g, (unit) => '\\u' + unit.charCodeAt(0).toString(16).padStart(4, '0'));
  const body = new TextEncoder().encode('tEXtparameters\0' + json);
  const chunk = new Uint8Array(body.length + 8), numbers = new DataView(chunk.buffer);
  numbers.setUint32(0, body.length - 4); // the length does not count the type
  chunk.set(body, 4);
  numbers.setUint32(body.length + 4, crc32(body));
  return new Blob([png.slice(0, PNG_HEADER), chunk, png.slice(PNG_HEADER)], { type: 'image/png' });
}

// The visible picture as PNG. A step that came as JPEG is drawn again.
function shownPng() {
  let source = sourceOf(momentOf(shown));
  if (!source.startsWith('data:image/png')) {
    const canvas = document.createElement('canvas');
    canvas.width = picture.naturalWidth;
    canvas.height = picture.naturalHeight;
    canvas.getContext('2d').drawImage(picture, 0, 0);
    source = canvas.toDataURL('image/png');
  }
  const settings = momentOf(shown).delta.settings;
  const png = bytesOf(source.slice(source.indexOf(',') + 1));
  return keepSettings.checked && settings ? withSettings(png, settings) : new Blob([png], { type: 'image/png' });
}

function download(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function trace() {
  const steps = moments.slice(0, latest + 1).flatMap((moment, index) => (moment ? [{
    index,
    revealed: moment.delta.revealed,
    seconds: moment.delta.seconds,
    prompt: moment.delta.prompt,
    energy: moment.score?.energy ?? null,
  }] : []));
  return new Blob([JSON.stringify({ ...run.settings, grid: run.grid, total, trace: steps }, null, 1)], { type: 'application/json' });
}

async function takeAway(kind) {
  const name = stem(kind === 'png' ? shown : latest) + '.' + kind;
  if (kind === 'png') { download(shownPng(), name); return; }
  if (kind === 'json') { download(trace(), name); return; }
  say(words('exporting'));
  const sent = moments.slice(0, latest + 1).filter(Boolean).map(({ source }) => source.slice(source.indexOf(',') + 1));
  const made = await answerOf(server.encode, { kind, frames: sent });
  if (made.error) {
    say(made.error);
  } else {
    download(new Blob([bytesOf(made.data)], { type: made.type }), name);
    say(words('exported', { name }));
  }
  announce(part('status').textContent);
}

part('download').addEventListener('click', (event) => {
  event.preventDefault();
  takeAway('png');
});
