// The light and dark switch; the choice is kept for the next visit.
const KEY = 'jepa-studio-mode';
const body = document.body;
const chosen = localStorage.getItem(KEY);
if (chosen) body.classList.toggle('dark', chosen === 'dark');
element.querySelector('.mode').addEventListener('click', () => {
  localStorage.setItem(KEY, body.classList.toggle('dark') ? 'dark' : 'light');
});
