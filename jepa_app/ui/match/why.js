// Explains one pair. A chosen word shows which parts of the picture it helps to predict; a chosen part shows which words
// help there. Text from users only ever goes through textContent.
const root = element.querySelector('.why');
const part = (name) => root.querySelector('.why-' + name);
const patches = part('patches'), chips = part('chips'), list = part('list');
let pair = null;          // the chosen row of the ranking
let told = null;          // the explanation of that pair
let word = null, patch = null; // at most one of the two is chosen
let answers = new Map();  // caption -> explanation, for the current picture

const percentOf = (share) => {
  const percent = Math.abs(share) * 100;
  return percent >= 10 ? percent.toFixed(0) : percent >= 0.1 ? percent.toFixed(1) : '<0.1';
};
const most = (values) => Math.max(...values);
const placeOf = (values, value) => values.indexOf(value);
const rowAndColumn = (at) => ({ row: Math.floor(at / told.grid) + 1, column: at % told.grid + 1 });
const place = (at) => words('place', rowAndColumn(at)), placeFirst = (at) => words('place_first', rowAndColumn(at));
const ranked = (values) => values.map((_, at) => at).sort((one, other) => values[other] - values[one]);
const givenAt = (at) => told.word_patches.map((row) => row[at]);

// For each part: by how much the chosen word, or the whole caption, reduces its error.
const shown = () => word === null ? told.patches : told.word_patches[word];
// All words share one scale, so that a word that hardly matters looks faint.
const scale = () => word === null ? told.patches : told.word_patches.flat();

function sentence() {
  if (patch !== null) {
    const best = told.words[ranked(givenAt(patch))[0]];
    const share = told.patches[patch];
    return words(share >= 0 ? 'say_patch' : 'say_patch_worse', { place: placeFirst(patch), percent: percentOf(share), word: best });
  }
  const peak = most(shown()), at = placeOf(shown(), peak);
  if (word !== null) {
    const text = told.words[word];
    const where = peak > 0 ? words('say_word', { word: text, place: place(at), percent: percentOf(peak) }) : words('say_idle', { word: text });
    const match = words('say_match', { without: probable(told.probabilities[word]), percent: probable(told.probability) });
    return where + (studioLanguage === 'zh' ? '' : ' ') + match;
  }
  const first = told.words[ranked(told.gains)[0]];
  if (peak <= 0) return words('say_nothing', { word: first });
  const count = told.patches.filter((share) => share > 0).length;
  return words('say_whole', { count, all: told.patches.length, place: place(at), percent: percentOf(peak), word: first });
}

function drawPatches() {
  const deepest = most(scale().map(Math.abs)) || 1;
  [...patches.children].forEach((button, at) => {
    const share = shown()[at];
    button.style.setProperty('--heat', ((Math.abs(share) / deepest) ** 0.6).toFixed(3)); // small values stay visible
    button.dataset.sign = share >= 0 ? 'helps' : 'hinders';
    button.setAttribute('aria-pressed', at === patch);
    const all = told.patches[at];
    button.setAttribute('aria-label', words(all >= 0 ? 'patch_less' : 'patch_more', {
      place: placeFirst(at), percent: percentOf(all), word: told.words[ranked(givenAt(at))[0]],
    }));
  });
  part('legend').textContent = words('legend', { percent: percentOf(deepest) });
}

function drawChips() {
  const deepest = most(told.gains.map(Math.abs)) || 1;
  [...chips.querySelectorAll('.why-word')].forEach((chip, at) => {
    const gain = patch === null ? told.gains[at] / deepest : givenAt(patch)[at] / (most(givenAt(patch).map(Math.abs)) || 1);
    chip.style.setProperty('--heat', Math.abs(gain).toFixed(3));
    chip.dataset.sign = gain >= 0 ? 'helps' : 'hinders';
    chip.setAttribute('aria-pressed', at === word);
  });
  chips.querySelector('.why-whole').setAttribute('aria-pressed', word === null && patch === null);
}

function drawList() {
  const values = patch === null ? told.gains : givenAt(patch);
  const deepest = most(values.map(Math.abs)) || 1;
  part('list-title').textContent = patch === null
    ? words('list_match', { percent: probable(told.probability) })
    : words('list_patch', { place: place(patch) });
  list.replaceChildren(...ranked(values).map((at) => {
    const item = node('li', 'why-item');
    item.dataset.sign = values[at] >= 0 ? 'helps' : 'hinders';
    item.classList.toggle('chosen', at === word);
    const bar = node('span', 'why-bar');
    bar.setAttribute('aria-hidden', 'true');
    bar.style.setProperty('--heat', (Math.abs(values[at]) / deepest).toFixed(3));
    const text = patch === null
      ? words(values[at] >= 0 ? 'worse' : 'better', { percent: probable(told.probabilities[at]), energy: Math.abs(values[at]).toFixed(4) })
      : words(values[at] >= 0 ? 'takes' : 'adds', { percent: percentOf(values[at]) });
    item.append(node('span', 'why-item-word', told.words[at]), bar, node('span', 'why-item-text', text));
    return item;
  }));
}

function draw() {
  drawPatches();
  drawChips();
  drawList();
  part('said').textContent = sentence();
}

function select(nextWord, nextPatch) {
  word = nextWord;
  patch = nextPatch;
  draw();
}

function build() {
  word = patch = null;
  root.hidden = false;
  root.dataset.state = 'ready';
  part('caption').textContent = pair.caption;
  part('picture').src = told.source;
  part('picture').alt = words('alt');
  patches.style.setProperty('--grid', told.grid);
  patches.replaceChildren(...told.patches.map((_, at) => {
    const button = node('button', 'why-patch');
    button.type = 'button';
    button.tabIndex = at ? -1 : 0;
    button.addEventListener('click', () => select(null, at === patch ? null : at));
    return button;
  }));
  const whole = node('button', 'why-whole', words('whole'));
  whole.type = 'button';
  whole.addEventListener('click', () => select(null, null));
  chips.replaceChildren(whole, ...told.words.map((text, at) => {
    const chip = node('button', 'why-word', text);
    chip.type = 'button';
    chip.addEventListener('click', () => select(at === word ? null : at, null));
    return chip;
  }));
  draw();
}

patches.addEventListener('keydown', (event) => {
  const all = [...patches.children], at = all.indexOf(document.activeElement);
  const row = Math.floor(at / told.grid), column = at % told.grid, last = told.grid - 1;
  const next = {
    ArrowLeft: column > 0 && at - 1, ArrowRight: column < last && at + 1,
    ArrowUp: row > 0 && at - told.grid, ArrowDown: row < last && at + told.grid, Home: row * told.grid, End: row * told.grid + last,
  }[event.key];
  if (next === undefined || at < 0) return;
  event.preventDefault();
  if (next === false) return;
  all[at].tabIndex = -1;
  all[next].tabIndex = 0;
  all[next].focus();
});
root.addEventListener('keydown', (event) => { if (event.key === 'Escape' && told) select(null, null); });

async function explain(chosen) {
  if (!chosen) { pair = told = null; root.hidden = true; return; }
  if (chosen.picture !== pair?.picture) answers = new Map();
  pair = chosen;
  if (!answers.has(chosen.caption)) {
    root.dataset.state = 'asking';
    part('said').textContent = words('asking');
    const answer = await answerOf(server.explain, { picture: chosen.picture, caption: chosen.caption });
    if (pair !== chosen) return; // the visitor has chosen another one meanwhile
    if (answer.error) { root.hidden = false; root.dataset.state = 'failed'; part('said').textContent = answer.error; return; }
    answers.set(chosen.caption, answer);
  }
  told = answers.get(chosen.caption);
  build();
}

document.addEventListener('jepa:why', (event) => explain(event.detail));
