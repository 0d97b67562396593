// Joined in front of the script of every component. It fills in the words of the page, and reads and writes what the
// browser keeps. studioLanguage comes from language.js.
const words = (key, values = {}) => props.words[studioLanguage][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
for (const empty of element.querySelectorAll('[data-text]')) empty.textContent = words(empty.dataset.text);
for (const silent of element.querySelectorAll('[data-label]')) silent.setAttribute('aria-label', words(silent.dataset.label));

function node(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

// How well a picture fits, in words.
const verdict = (probability) => words(props.verdicts.find(([threshold]) => probability >= threshold)[1]);

// What somebody who waits in line is told; at first nobody knows for how long.
function waitingWords({ ahead, seconds = null }) {
  if (!ahead) return words('waiting');
  return seconds === null ? words('queued', { ahead }) : words('queued_for', { ahead, seconds: Math.max(1, Math.round(seconds)) });
}

// A probability as a whole percentage that never claims certainty.
const probable = (probability) => probability >= 0.995 ? '>99' : probability < 0.005 ? '<1' : String(Math.round(probability * 100));

const isReload = performance.getEntriesByType('navigation')[0]?.type === 'reload';

// The browser's storage may be full or switched off. A choice then lasts for this visit only.
const stored = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
const store = (key, value) => { try { localStorage.setItem(key, value); return true; } catch { return false; } };

// The answer of a function of the server. It is { error } if the request was wrong or the server cannot be reached.
async function answerOf(serverFunction, request) {
  try {
    return (await serverFunction(request)) ?? { error: words('unreachable') };
  } catch {
    return { error: words('unreachable') };
  }
}
