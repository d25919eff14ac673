(function () {
  "use strict";
  const say = (text) => {
    const place = document.querySelector(".sq-status");
    place.textContent = text;
    setTimeout(() => { if (place.textContent === text) place.textContent = ""; }, 2500);
  };
  const copy = async (text, what) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch (refused) {  // a page that is not served from this machine may not use the clipboard
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    say(what + " copied");
  };
  const pythonOf = (line) => [...line.querySelectorAll(".sq-opening, .sq-python")].map((part) => part.textContent).join("");
  const themed = (name) => {
    const address = new URL(location.href);
    address.searchParams.set("theme", name);
    location.replace(address);
  };
  const actions = {
    "copy-address": () => copy(location.href, "Address"),
    theme: () => themed(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
    help: () => document.querySelector(".sq-help").showModal(),
  };
  document.documentElement.dataset.theme = getComputedStyle(document.documentElement).colorScheme.trim();
  // Whoever did not choose sees the page as the rest of their screen.
  if (!new URL(location.href).searchParams.has("theme") && matchMedia("(prefers-color-scheme: dark)").matches) themed("dark");

  document.addEventListener("click", (event) => {
    for (const part of event.composedPath()) {
      if (!(part instanceof HTMLElement)) continue;
      if (part.dataset.do in actions) return actions[part.dataset.do]();
      if (part.classList.contains("sq-copy")) return copy(pythonOf(part.parentNode), "Python");
    }
  });

  const KEYS = { ArrowUp: ["sample", -1], ArrowDown: ["sample", 1], ArrowLeft: ["unit", -1], ArrowRight: ["unit", 1] };
  const stepped = { sample: 0, unit: 0 };  // in all, so that nothing is lost where several presses arrive as one
  const typing = (event) => event.composedPath().some((part) => part instanceof HTMLElement
    && (["INPUT", "TEXTAREA", "SELECT"].includes(part.tagName) || part.isContentEditable || part.getAttribute("role") === "tab"));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || typing(event)) return;
    if (event.key === "?") return actions.help();
    if (!(event.key in KEYS)) return;
    const keys = window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].get_model_by_name("keys");
    if (!keys) return;
    event.preventDefault();
    const [field, step] = KEYS[event.key];
    stepped[field] += step;
    keys.value = stepped.sample + ":" + stepped.unit;
  });
})();
