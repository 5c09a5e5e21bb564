// Searches all pages: every word that is typed has to occur in a section, or in the row of a table that begins
// with a key. The sections are a script and no JSON file, since a page that is opened as a file may fetch nothing.
(function () {
  "use strict";
  const form = document.getElementById("search");
  const field = form.elements.q;
  const found = document.getElementById("found");
  const article = document.querySelector("article");
  let folded = null;   // [[heading, heading and words], ...] in lower case
  form.hidden = false;

  function load(then) {
    if (folded) return then();
    const script = document.createElement("script");
    script.src = "sections.js";
    script.onload = function () {
      folded = window.sections.map((s) => [s[2].toLowerCase(), (s[1] + " " + s[2] + " " + s[3]).toLowerCase()]);
      then();
    };
    document.head.appendChild(script);
  }

  // How well a section fits: 0 where a word is missing.
  function score(section, words) {
    const [heading, all] = section;
    let sum = 0;
    for (const word of words) {
      if (!all.includes(word)) return 0;
      sum += heading === word ? 40 : heading.startsWith(word) ? 12 : heading.includes(word) ? 8 : 1;
    }
    return sum + 1 / (1 + all.length);
  }

  function element(kind, text, into) {
    const made = document.createElement(kind);
    made.textContent = text;
    into.appendChild(made);
    return made;
  }

  // The words around the first that was looked for, with all of them marked.
  function excerpt(text, words, into) {
    const lower = text.toLowerCase();
    const first = Math.min(...words.map((word) => lower.indexOf(word)).filter((at) => at >= 0), text.length);
    let begin = first < text.length && first > 60 ? text.indexOf(" ", first - 60) + 1 : 0;
    const end = Math.min(text.length, begin + 220);
    if (begin > 0) into.append("... ");
    while (begin < end) {
      let next = end, length = 0;
      for (const word of words) {
        const at = lower.indexOf(word, begin);
        if (at >= 0 && at < next) { next = at; length = word.length; }
      }
      into.append(text.slice(begin, next));
      if (length) element("mark", text.slice(next, next + length), into);
      begin = next + length;
    }
    if (end < text.length) into.append(" ...");
  }

  function show() {
    const words = field.value.toLowerCase().split(/\s+/).filter((word) => word.length > 1);
    found.textContent = "";
    found.hidden = words.length === 0;
    article.hidden = words.length > 0;
    if (!words.length) return;
    const hits = [];
    folded.forEach((section, i) => {
      const s = score(section, words);
      if (s > 0) hits.push([s, window.sections[i]]);
    });
    hits.sort((a, b) => b[0] - a[0]);
    element("p", hits.length ? hits.length + " found" : "Nothing holds all of these words.", found);
    for (const [, [link, page, heading, text]] of hits.slice(0, 30)) {
      const hit = element("p", "", found);
      element("a", heading, hit).href = link;
      element("small", " " + page, hit);
      element("br", "", hit);
      excerpt(text, words, element("span", "", hit));
    }
  }

  function hide() { field.value = ""; if (folded) show(); }

  field.addEventListener("input", () => load(show));
  found.addEventListener("click", (event) => { if (event.target.closest("a")) hide(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    if (event.key === "/" && document.activeElement !== field) { event.preventDefault(); field.focus(); }
  });
  const asked = new URLSearchParams(location.search).get("q");   // index.html?q=warmup may be linked
  if (asked) { field.value = asked; load(show); }
})();
