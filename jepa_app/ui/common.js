// Stands before the script of every component that has words: fills them in, and reads and writes what the browser keeps.
// studioLanguage comes from language.js.
const words = (key, values = {}) => props.words[studioLanguage][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
for (const node of element.querySelectorAll('[data-text]')) node.textContent = words(node.dataset.text);
for (const node of element.querySelectorAll('[data-label]')) node.setAttribute('aria-label', words(node.dataset.label));

// The browser's memory may be full or switched off; then what is chosen lasts for this visit only.
const stored = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
const store = (key, value) => { try { localStorage.setItem(key, value); return true; } catch { return false; } };
