// Names what the model has never seen of the prompt, and what it is read as.
// The server sends { words: [...], thing: null or "...", read_as: null or "..." }.
watch('value', () => {
  const unseen = props.value?.words ?? [];
  const thing = props.value?.thing, caption = props.value?.read_as;
  const lines = [
    caption ? words('read_as', { caption }) : '',
    unseen.length ? words('unknown', { words: unseen.join(', ') }) : '',
    thing ? words('new_pair', { thing }) : '',
  ];
  element.querySelector('.unknown-words').textContent = lines.filter(Boolean).join(' · ');
});
