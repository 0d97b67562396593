// Runs in the page's head, before Gradio builds the page from window.gradio_config.
const studioLanguage = /^zh\b/i.test(navigator.language) ? 'zh' : 'en';

// Gradio sets `lang` to the browser's language, even if the page has no words in that language. This sets it right.
const nameLanguage = () => {
  const name = studioLanguage === 'zh' ? 'zh-CN' : 'en';
  if (document.documentElement.lang !== name) document.documentElement.lang = name;
};
nameLanguage();
new MutationObserver(nameLanguage).observe(document.documentElement, { attributeFilter: ['lang'] });

if (studioLanguage === 'zh') {
  const told = (text) => studioChinese[text] ?? text;
  for (const { type, props } of window.gradio_config?.components ?? []) {
    for (const name of ['label', 'info', 'placeholder']) if (name in props) props[name] = told(props[name]);
    if (Array.isArray(props.choices)) props.choices = props.choices.map(([text, value]) => [told(text), value]);
    if (['button', 'html', 'markdown'].includes(type)) props.value = told(props.value);
  }
}
