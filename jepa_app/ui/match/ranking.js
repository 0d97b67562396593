// Draws the ranked captions. A choice among them goes to why.js. Captions come from users and only ever go through
// textContent.
const root = element.querySelector('.ranking');
const list = root.querySelector('.ranking-list');

// A share of the reference pairs as a whole percentage, rounded down and never 100.
const percentOf = (share) => String(Math.min(99, Math.floor(share * 100)));

function standing({ better_than_wrong: wrong, better_than_right: right }) {
  if (wrong === null || wrong === undefined) return null;
  const kind = right > 0.6 ? 'strong' : right < 0.4 ? 'weak' : 'typical';
  return words(kind, { wrong: percentOf(wrong), right: percentOf(right), others: percentOf(1 - right) });
}

function choose(place) {
  [...list.querySelectorAll('.match-choose')].forEach((button, at) => button.setAttribute('aria-pressed', at === place));
  document.dispatchEvent(new CustomEvent('jepa:why', { detail: props.value[place] ?? null }));
}

function row(result, place) {
  const item = node('li', 'match');
  const button = node('button', 'match-choose');
  button.type = 'button';
  button.addEventListener('click', () => choose(place));
  const percent = Math.round(result.probability * 100);
  const head = node('span', 'match-head');
  const told = result.differs ? words('differs_' + result.differs) : verdict(result.probability);
  head.append(node('span', 'match-caption', result.caption), node('span', 'match-words', told));
  const bar = node('span', 'match-bar');
  bar.setAttribute('aria-hidden', 'true');
  const fill = node('span', 'match-fill');
  fill.style.width = percent + '%';
  bar.append(fill);
  button.append(head, bar);
  const compared = standing(result);
  if (result.closer) button.append(node('span', 'match-standing', words('closer', { caption: result.closer })));
  else if (compared) button.append(node('span', 'match-standing', compared));
  const facts = { percent: probable(result.probability), share: probable(result.share ?? 1), energy: result.energy.toFixed(4) };
  button.append(node('span', 'match-facts', words(props.value.length > 1 ? 'facts_among' : 'facts', facts)));
  item.append(button);
  return item;
}

watch('value', () => {
  const results = Array.isArray(props.value) ? props.value : [];
  list.replaceChildren(...results.map(row));
  list.hidden = results.length === 0;
  root.querySelector('.ranking-empty').hidden = results.length > 0;
  root.querySelector('.ranking-hint').hidden = results.length < 2;
  choose(0);
});
