// The token strip in the browser. Called by Streamlit on every run of the page with new data; what it knows of a strip
// stays in `strips`, so that only what has changed is touched. Text is set with textContent and attributes alone.

// What uses the arrow keys itself, wherever it stands on the page.
const OWN_ARROWS = [
  "input:not([type=checkbox], [type=button])",
  "textarea",
  "select",
  "audio",
  "video",
  "[contenteditable]:not([contenteditable=false])",
  "[data-testid=stDataFrame]",
  ...["application", "combobox", "dialog", "grid", "listbox", "menu", "menubar", "radiogroup"].map((role) => `[role=${role}]`),
  ...["slider", "spinbutton", "tablist", "toolbar", "tree", "treegrid"].map((role) => `[role=${role}]`),
].join(", ");
const strips = new WeakMap();

export default function ({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector(".strip");
  if (!root) return;
  let strip = strips.get(root);
  if (!strip) {
    strip = build(root);
    strips.set(root, strip);
  }
  strip.choice.report = (position) => setTriggerValue("position", position);
  walkWithKeys(strip, data.walksWithKeys);
  update(strip, data);
  const call = ++strip.calls;
  return () => {
    hideCard(strip);
    // Streamlit may end a call that was overtaken after the next one has begun.
    if (call === strip.calls) walkWithKeys(strip, false);
  };
}

// --- building ---------------------------------------------------------------------------------------------------

function build(root) {
  const strip = {
    root,
    data: null,
    elements: [],
    signatures: [],
    focusable: null,
    calls: 0,
  };
  strip.choice = new Choice((position, before) => select(strip, position, before));
  strip.onPageKey = (event) => onPageKey(strip, event);
  strip.legend = add(root, "div", "legend");
  strip.legendName = add(strip.legend, "span", "name");
  strip.legendLow = add(strip.legend, "span", "low");
  add(strip.legend, "span", "ramp").setAttribute("aria-hidden", "true");
  strip.legendHigh = add(strip.legend, "span", "high");
  strip.struckNote = add(strip.legend, "span", "struck-note");

  strip.text = add(root, "div", "text");
  strip.text.dir = "auto";
  strip.prompt = add(strip.text, "span", "prompt");
  strip.list = add(strip.text, "span", "tokens");
  strip.list.setAttribute("role", "listbox");
  strip.list.setAttribute("aria-label", "Tokens of the output");
  strip.list.setAttribute("aria-orientation", "horizontal");

  strip.card = add(root, "div", "card");
  strip.card.popover = "manual";
  strip.card.setAttribute("aria-hidden", "true"); // its content is the label of the token
  strip.facts = add(strip.card, "dl", "");

  strip.list.addEventListener("click", (event) => {
    const position = positionOf(event.target);
    if (position === null) return;
    strip.choice.choose(position);
    strip.elements[position].focus({ preventScroll: true });
  });
  strip.list.addEventListener("keydown", (event) => onKey(strip, event));
  strip.list.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "touch") showCard(strip, positionOf(event.target));
  });
  strip.list.addEventListener("pointerleave", () => hideCard(strip));
  strip.list.addEventListener("focusin", (event) => {
    const position = positionOf(event.target);
    makeFocusable(strip, position);
    if (event.target.matches(":focus-visible")) showCard(strip, position);
  });
  strip.list.addEventListener("focusout", () => hideCard(strip));
  return strip;
}

function add(parent, tag, className) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  parent.append(element);
  return element;
}

function positionOf(target) {
  const token = target.closest?.(".token");
  return token ? Number(token.dataset.position) : null;
}

// A run is text, or [mark, what it stands for]: the mark is drawn by the style sheet, so copied text does not hold it.
function fill(element, runs) {
  for (const run of runs) {
    if (typeof run === "string") {
      element.append(run);
    } else {
      add(element, "span", "mark").dataset.mark = run[0];
      if (run[1]) element.append(run[1]);
    }
  }
}

// --- keeping up with the data -----------------------------------------------------------------------------------

function update(strip, data) {
  const before = strip.data;
  strip.data = data;
  strip.root.dataset.hue = data.hue;
  strip.legendName.textContent = data.legend.label;
  strip.legendLow.textContent = data.legend.low;
  strip.legendHigh.textContent = data.legend.high;
  strip.struckNote.textContent = data.struckNote;
  strip.struckNote.hidden = !data.struckNote;

  if (!before || JSON.stringify(before.prompt) !== JSON.stringify(data.prompt)) {
    strip.prompt.replaceChildren();
    fill(strip.prompt, data.prompt);
  }
  updateTokens(strip, data);
  updateStruck(strip, data.struck);
  strip.choice.take(data.selected);
  if (strip.elements.length && strip.focusable === null) makeFocusable(strip, 0);
}

function updateTokens(strip, data) {
  const signatures = data.tokens.map(([runs]) => JSON.stringify(runs));
  let same = 0;
  while (same < strip.signatures.length && strip.signatures[same] === signatures[same]) same += 1;
  if (same < strip.elements.length) {
    hideCard(strip);
    for (const element of strip.elements.splice(same)) element.remove();
    if (strip.choice.position !== null && strip.choice.position >= same) strip.choice.position = null;
    if (strip.focusable !== null && strip.focusable >= same) strip.focusable = null;
  }
  const fresh = document.createDocumentFragment();
  for (let position = same; position < data.tokens.length; position += 1) {
    const element = newToken(data.tokens[position][0], position);
    strip.elements.push(element);
    fresh.append(element);
  }
  data.tokens.forEach(([, value, facts], position) => {
    const element = strip.elements[position];
    if (element.wash !== value) {
      element.wash = value;
      element.style.setProperty("--value", value / 100);
    }
    const label = spoken(data.factLabels, facts, position);
    if (element.spoken !== label) {
      element.spoken = label;
      element.setAttribute("aria-label", label);
    }
  });
  strip.list.append(fresh);
  strip.signatures = signatures;
}

// The space before a word stays unwashed, so that a wash has the shape of its word.
function newToken(runs, position) {
  const element = document.createElement("span");
  element.className = "token";
  element.dataset.position = position;
  element.setAttribute("role", "option");
  element.setAttribute("aria-selected", "false");
  element.tabIndex = -1;
  const [first, ...rest] = runs;
  let inked = runs;
  if (typeof first === "string") {
    const word = first.trimStart();
    if (word && word !== first) {
      element.append(first.slice(0, first.length - word.length));
      inked = [word, ...rest];
    }
  }
  fill(add(element, "span", "ink"), inked);
  return element;
}

function spoken(labels, facts, position) {
  return `Step ${position + 1}. ` + facts.map((fact, i) => `${labels[i]}: ${fact}`).join(", ");
}

function updateStruck(strip, struck) {
  const positions = new Set(struck);
  strip.elements.forEach((element, position) => {
    element.classList.toggle("struck", positions.has(position));
    element.classList.toggle("first-struck", position === struck[0]);
  });
}

// --- choosing ---------------------------------------------------------------------------------------------------

function select(strip, position, before) {
  strip.elements[before]?.setAttribute("aria-selected", "false");
  strip.elements[position]?.setAttribute("aria-selected", "true");
  makeFocusable(strip, position);
}

// One stop for the Tab key: the chosen token, or the first.
function makeFocusable(strip, position) {
  if (position === null || !strip.elements[position]) return;
  if (strip.focusable !== null && strip.elements[strip.focusable]) strip.elements[strip.focusable].tabIndex = -1;
  strip.elements[position].tabIndex = 0;
  strip.focusable = position;
}

function onKey(strip, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const position = positionOf(event.target);
  if (position === null) return;
  if (event.key === "Escape") {
    hideCard(strip);
    return;
  }
  const next = destination(strip, position, event.key);
  if (next === null) return;
  event.preventDefault();
  // Who has scrolled on to a chart and walks on wants to see the chart.
  const preventScroll = !isInSight(strip, position);
  strip.choice.choose(next, event.repeat);
  strip.elements[next].focus({ preventScroll });
}

function walkWithKeys(strip, walks) {
  strip.choice.share(walks);
  document.removeEventListener("keydown", strip.onPageKey);
  if (walks) document.addEventListener("keydown", strip.onPageKey);
}

// Left and right walk wherever the focus is. The other keys scroll the page, as everybody expects of a page, unless the
// chart that chooses steps was clicked last: there Home and End go to the ends of the run, as they do in the text.
function onPageKey(strip, event) {
  if (event.defaultPrevented || event.isComposing) return;
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  const path = event.composedPath().filter((place) => place instanceof Element);
  const isOnChart = path.some((place) => place.matches("[data-chooses-steps]"));
  const keys = isOnChart ? ["ArrowLeft", "ArrowRight", "Home", "End"] : ["ArrowLeft", "ArrowRight"];
  if (!keys.includes(event.key) || !strip.elements.length) return;
  if (path.some((place) => place.matches(OWN_ARROWS)) || document.querySelector("[role=dialog]")) return;
  event.preventDefault();
  strip.choice.choose(destination(strip, strip.choice.position ?? 0, event.key), event.repeat);
}

function destination(strip, position, key) {
  const last = strip.elements.length - 1;
  switch (key) {
    case "ArrowRight":
      return Math.min(position + 1, last);
    case "ArrowLeft":
      return Math.max(position - 1, 0);
    case "Home":
      return 0;
    case "End":
      return last;
    case "Enter":
    case " ":
      return position;
    case "ArrowDown":
      return onNextLine(strip, position, 1);
    case "ArrowUp":
      return onNextLine(strip, position, -1);
    default:
      return null;
  }
}

// The token nearest to straight above or below: walk to the first token of the next line, then along that line.
function onNextLine(strip, position, direction) {
  const start = boxOf(strip, position);
  const middle = (start.left + start.right) / 2;
  let best = position;
  let line = null;
  let least = Infinity;
  for (let i = position + direction; i >= 0 && i < strip.elements.length; i += direction) {
    const box = boxOf(strip, i);
    if (Math.abs(box.top - start.top) < start.height / 2) continue;
    line ??= box.top;
    if (Math.abs(box.top - line) > box.height / 2) break;
    const distance = Math.max(box.left - middle, middle - box.right, 0);
    if (distance < least) {
      least = distance;
      best = i;
    }
  }
  return best;
}

function isInSight(strip, position) {
  const { top, bottom } = boxOf(strip, position);
  return bottom > 0 && top < window.innerHeight;
}

function boxOf(strip, position) {
  const ink = strip.elements[position].querySelector(".ink");
  return ink.getClientRects()[0] ?? ink.getBoundingClientRect();
}

// --- the card of numbers ----------------------------------------------------------------------------------------

function showCard(strip, position) {
  if (position === null || !strip.data.tokens[position]) return;
  strip.facts.replaceChildren();
  strip.data.tokens[position][2].forEach((fact, i) => {
    add(strip.facts, "dt", "").textContent = strip.data.factLabels[i];
    const value = add(strip.facts, "dd", "");
    value.dir = "auto";
    value.textContent = fact;
  });
  if (!strip.card.matches(":popover-open")) {
    strip.card.showPopover();
    strip.hideOnScroll ??= () => hideCard(strip);
    window.addEventListener("scroll", strip.hideOnScroll, { capture: true, passive: true, once: true });
  }
  const token = boxOf(strip, position);
  const card = strip.card.getBoundingClientRect();
  const left = Math.min(Math.max(token.left, 8), window.innerWidth - card.width - 8);
  const below = token.bottom + 8;
  const fits = below + card.height < window.innerHeight - 8;
  strip.card.style.left = `${left}px`;
  strip.card.style.top = `${fits ? below : Math.max(token.top - card.height - 8, 8)}px`;
}

function hideCard(strip) {
  if (strip.card.matches(":popover-open")) strip.card.hidePopover();
}
