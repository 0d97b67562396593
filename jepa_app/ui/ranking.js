// Draws the ranked captions. Captions are users' text: they only ever go through textContent.
const root = element.querySelector('.ranking');
const list = root.querySelector('.ranking-list');

function node(tag, name, text) {
  const made = document.createElement(tag);
  made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function row(result) {
  const item = node('li', 'match');
  const percent = Math.round(result.probability * 100);
  const head = node('div', 'match-head');
  head.append(node('span', 'match-caption', result.caption), node('span', 'match-words', verdict(result.probability)));
  const bar = node('div', 'match-bar');
  bar.setAttribute('aria-hidden', 'true');
  const fill = node('span', 'match-fill');
  fill.style.width = percent + '%';
  bar.append(fill);
  item.append(head, bar, node('p', 'match-facts', words('facts', { percent, energy: result.energy.toFixed(4) })));
  return item;
}

watch('value', () => {
  const results = Array.isArray(props.value) ? props.value : [];
  list.replaceChildren(...results.map(row));
  list.hidden = results.length === 0;
  root.querySelector('.ranking-empty').hidden = results.length > 0;
});
