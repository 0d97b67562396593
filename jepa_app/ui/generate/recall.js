// Reads settings from a picture or from the page's address, and writes them into a link. The server checks what comes
// in, and `fill` then writes it into the controls. Nothing here starts a run.
const note = element.querySelector('.recall-note');
const zone = element.querySelector('.from-picture');
const chooser = zone.querySelector('input');
const MAX_MB = 16;
const KEYS = ['prompt', 'negative_prompt', 'steps', 'guidance', 'temperature', 'seed'];
const FIELDS = {
  prompt: '#prompt textarea', negative_prompt: '#negative-prompt textarea', steps: '#steps input[type=number]',
  guidance: '#guidance input[type=number]', temperature: '#heat input[type=number]', seed: '#seed input',
};
const TYPED_KEY = 'jepa-studio-typed';
const fieldOf = (key) => document.querySelector(FIELDS[key]);
const tell = (text) => { note.textContent = text; };

async function until(isSo) { // but not for ever
  for (let waits = 0; waits < 60 && !isSo(); waits += 1) await new Promise((resolve) => { setTimeout(resolve, 50); });
}

function fill(settings) {
  props.value = settings;
  trigger('fill');
}

async function bytesAsText(file) {
  const url = await new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => resolve('');
    reader.readAsDataURL(file);
  });
  return url.slice(url.indexOf(',') + 1);
}

async function send(ask, file, more = {}) { // the server's answer, or null if something was wrong, which it then shows
  if (!file) return null;
  if (file.size > MAX_MB * 2 ** 20) { tell(words('too_large', { name: file.name, most: MAX_MB })); return null; }
  const answer = await answerOf(ask, { name: file.name, data: await bytesAsText(file), ...more });
  if (answer.error) tell(answer.error);
  return answer.error ? null : answer;
}

async function readPicture(file) {
  const answer = await send(server.read_picture, file);
  if (!answer) return;
  fill(answer.settings);
  tell(words('filled', { name: file.name }));
}

// A picture to begin with goes to the player. There the visitor paints over the part that is to be made anew.
let beginning = null;
async function beginWith(file, room) {
  beginning = file;
  const answer = await send(server.begin_with, file, { room });
  if (!answer) return;
  tell(words('begun', { name: file.name }));
  document.dispatchEvent(new CustomEvent('jepa:begin', { detail: answer }));
}
const opener = element.querySelector('.begin-with input');
opener.addEventListener('change', () => {
  beginWith(opener.files[0], false);
  opener.value = '';
});
document.addEventListener('jepa:room', () => beginWith(beginning, true));
document.addEventListener('jepa:restore', (event) => { if (!typed && !isLink) fill(event.detail); }); // of a run that the page returns to

// A run that the server has lost is made again: its settings first, then the button that makes it.
document.addEventListener('jepa:again', async (event) => {
  fill(event.detail);
  await until(() => fieldOf('prompt')?.value === event.detail.prompt && fieldOf('seed')?.value === String(event.detail.seed));
  document.querySelector('#run').click();
});

chooser.addEventListener('change', () => {
  readPicture(chooser.files[0]);
  chooser.value = ''; // so that the same file can be chosen again
});
for (const kind of ['dragenter', 'dragover']) {
  zone.addEventListener(kind, (event) => { event.preventDefault(); zone.classList.add('over'); });
}
for (const kind of ['dragleave', 'drop']) zone.addEventListener(kind, () => zone.classList.remove('over'));
zone.addEventListener('drop', (event) => {
  event.preventDefault();
  readPicture(event.dataTransfer.files[0]);
});

element.querySelector('.copy-link').addEventListener('click', () => trigger('link'));
document.addEventListener('jepa:link', async (event) => { // the tab answers with the values of its controls
  const [last, ...values] = event.detail;
  const settings = Object.fromEntries(KEYS.map((key, place) => [key, values[place]]));
  const isShown = last?.settings && KEYS.every((key) => key === 'seed' || last.settings[key] === (settings[key] ?? ''));
  settings.seed ??= isShown ? last.seed : null; // so that a link to the visible picture leads to the same picture
  const link = new URL(location.href);
  link.hash = '';
  for (const key of KEYS) {
    if (settings[key] === null || settings[key] === undefined || settings[key] === '') link.searchParams.delete(key);
    else link.searchParams.set(key, settings[key]);
  }
  history.replaceState(history.state, '', link);
  try {
    await navigator.clipboard.writeText(link.href);
    tell(words('link_copied'));
  } catch { // there is no clipboard without https
    tell(words('link_in_address'));
  }
});

const inAddress = new URLSearchParams(location.search), before = typedBefore();
const isLink = KEYS.some((key) => inAddress.has(key)) && (!before || before.prompt === inAddress.get('prompt'));
const typed = isLink ? null : before;

// What was typed before the page was loaded again, by the visitor or because the server was started again.
function typedBefore() {
  if (!isReload) return null;
  try {
    const kept = JSON.parse(sessionStorage.getItem(TYPED_KEY) ?? 'null');
    return kept?.prompt ? kept : null;
  } catch {
    return null;
  }
}

window.addEventListener('pagehide', () => {
  const keys = KEYS.filter((key) => key !== 'seed'); // the next run is to draw its own
  const values = Object.fromEntries(keys.map((key) => [key, fieldOf(key)?.value ?? '']).filter(([, value]) => value !== ''));
  try { sessionStorage.setItem(TYPED_KEY, JSON.stringify(values)); } catch { /* the browser's storage is off */ }
});

async function checked(asked) { // settings that the server allows, filled in when the page is ready for them
  const answer = await answerOf(server.read_link, asked);
  if (answer.error) return answer;
  await until(() => fieldOf('seed')?.value === ''); // the page has cleared it
  if (Object.keys(answer.settings).length) fill(answer.settings);
  return answer;
}

async function openLink() {
  if (typed) checked(typed);
  if (!isLink) return;
  const answer = await checked(Object.fromEntries(inAddress));
  if (answer.error) { tell(answer.error); return; }
  const names = answer.ignored.join(', ');
  tell(names ? words('link_partly', { names }) : words('link_opened'));
}
openLink();
