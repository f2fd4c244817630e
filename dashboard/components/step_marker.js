// The line over a Plotly chart at the chosen step, and the click that chooses one. Called by Streamlit on every run of the
// page with new data. The chart may come later, be drawn again or be replaced at any time: nothing here relies on it.

const LINE_WIDTH = 2; // as in the style sheet
const MOST_PIXELS_OF_A_CLICK = 4;
const LEAST_COLUMN = 8; // pixels
const DOUBLE_CLICK_MS = 300; // Plotly's own
const RELAYOUT_WITHIN_MS = 600;
const HANDED_ON = ["--st-text-color", "--st-background-color", "--st-red-color", "--st-font"];
const SVG = "http://www.w3.org/2000/svg";
const REDRAWN = ["plotly_afterplot", "plotly_relayout", "plotly_relayouting"];
const markers = new WeakMap();

export default function ({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector(".step-marker");
  if (!root) return;
  let marker = markers.get(root);
  if (!marker) {
    marker = build(root);
    markers.set(root, marker);
  }
  marker.data = data;
  marker.choice.report = (position) => setTriggerValue("position", position);
  start(marker);
  marker.choice.take(data.selected);
  look(marker);
  place(marker); // also after a change of the theme, which is all that may have changed
  const call = ++marker.calls;
  // Streamlit may end a call that was overtaken after the next one has begun.
  return () => {
    if (call === marker.calls) stop(marker);
  };
}

function build(root) {
  const marker = { root, data: null, isOn: false, calls: 0, chart: null, detach: () => {}, lastClick: null };
  marker.choice = new Choice(() => place(marker));
  marker.line = document.createElement("span"); // Plotly's style sheet takes the border from every div in a chart
  marker.line.className = "step-marker-line";
  marker.line.setAttribute("aria-hidden", "true"); // the page says in words which step is chosen
  marker.label = document.createElement("span");
  marker.label.className = "step-marker-label";
  marker.line.append(marker.label);
  marker.question = buildQuestion();

  let isAsked = false;
  marker.observer = new MutationObserver(() => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => {
      isAsked = false;
      if (marker.isOn) look(marker);
    });
  });
  return marker;
}

function start(marker) {
  if (marker.isOn) return;
  marker.isOn = true;
  marker.choice.share(true);
  marker.observer.observe(document.body, { childList: true, subtree: true });
}

function stop(marker) {
  marker.isOn = false;
  marker.choice.share(false);
  marker.observer.disconnect();
  attach(marker, null);
}

// --- the chart --------------------------------------------------------------------------------------------------

// Is the chart there, and is it still the same one?
function look(marker) {
  const found = document.querySelector(`.st-key-${CSS.escape(marker.data.chartKey)} .js-plotly-plot`);
  const chart = found?._fullLayout?.xaxis?.d2p && found.on ? found : null;
  if (chart === marker.chart && (!chart || marker.line.isConnected)) return;
  attach(marker, chart);
  place(marker);
}

function attach(marker, chart) {
  marker.detach();
  marker.line.remove();
  marker.question.drawing.remove();
  marker.question.key.remove();
  marker.chart = chart;
  marker.lastClick = null;
  if (!chart) {
    marker.detach = () => {};
    return;
  }
  const onRedrawn = () => place(marker);
  const onRelayout = () => takeBack(marker);
  const onPress = (event) => press(marker, event);
  REDRAWN.forEach((name) => chart.on(name, onRedrawn));
  chart.on("plotly_relayout", onRelayout);
  chart.addEventListener("pointerdown", onPress);
  chart.tabIndex = -1;
  chart.dataset.choosesSteps = "";
  marker.detach = () => {
    // A chart that is gone has been emptied of Plotly's part.
    REDRAWN.forEach((name) => chart.removeListener?.(name, onRedrawn));
    chart.removeListener?.("plotly_relayout", onRelayout);
    chart.removeEventListener("pointerdown", onPress);
    chart.removeAttribute("tabindex");
    delete chart.dataset.choosesSteps;
  };
}

// Where the plot stands in the chart, in pixels: all rows that share the x axis, and the room between them.
function plotOf(chart) {
  const { xaxis, _size: size } = chart._fullLayout ?? {};
  if (!xaxis?.d2p || !size) return null;
  return { xaxis, left: xaxis._offset, width: xaxis._length, top: size.t, height: size.h };
}

// --- the line ---------------------------------------------------------------------------------------------------

function place(marker) {
  placeQuestion(marker);
  const { chart, line, label, choice } = marker;
  const plot = chart && plotOf(chart);
  const frame = chart?.querySelector(".svg-container");
  if (!plot || !frame || choice.position === null) {
    line.hidden = true;
    return;
  }
  if (line.parentElement !== frame) {
    // Beneath the titles and what Plotly shows under the pointer, which are in the last of its drawings.
    frame.insertBefore(line, [...frame.querySelectorAll(":scope > svg")].at(-1) ?? null);
  }
  const along = plot.xaxis.d2p(choice.position + 1);
  line.hidden = !(along >= 0 && along <= plot.width);
  if (line.hidden) return;
  const theme = getComputedStyle(marker.root);
  for (const name of HANDED_ON) line.style.setProperty(name, theme.getPropertyValue(name));
  const left = plot.left + along;
  line.style.left = `${left - LINE_WIDTH / 2}px`;
  line.style.top = `${plot.top}px`;
  line.style.height = `${plot.height}px`;
  const told = `step ${(choice.position + 1).toLocaleString("en-GB")}`;
  if (label.textContent !== told) label.textContent = told;
  const half = label.getBoundingClientRect().width / 2;
  const middle = Math.min(Math.max(left, half), frame.clientWidth - half);
  label.style.left = `${middle - left - LINE_WIDTH / 2}px`; // counted from the inner edge of the border
}

// --- the cut that is asked about --------------------------------------------------------------------------------

function buildQuestion() {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.classList.add("step-marker-question");
  drawing.setAttribute("aria-hidden", "true"); // the page says in words what the answer is
  const key = document.createElement("span");
  key.className = "step-marker-key";
  key.setAttribute("aria-hidden", "true");
  return { drawing, key };
}

// A stepped line in each row, level over the width of each step, clipped to its row; drawn twice, so that it has a rim.
function placeQuestion(marker) {
  const { chart, data, question } = marker;
  const { drawing, key } = question;
  const plot = chart && data?.question && plotOf(chart);
  const frame = chart?.querySelector(".svg-container");
  if (!plot || !frame) {
    drawing.remove();
    key.remove();
    return;
  }
  if (drawing.parentElement !== frame) {
    frame.insertBefore(drawing, [...frame.querySelectorAll(":scope > svg")].at(-1) ?? null);
    frame.append(key);
  }
  const theme = getComputedStyle(marker.root);
  for (const part of [drawing, key]) {
    for (const name of HANDED_ON) part.style.setProperty(name, theme.getPropertyValue(name));
  }
  if (key.textContent !== data.question.name) key.textContent = data.question.name;
  // Between narrow columns dashes and a wide rim would be all there is to see.
  drawing.classList.toggle("dense", plot.xaxis.d2p(2) - plot.xaxis.d2p(1) < LEAST_COLUMN);
  drawing.replaceChildren();
  for (const [name, values] of Object.entries(data.question.rows)) {
    const yaxis = chart._fullLayout[name];
    if (!yaxis?.d2p) continue;
    const row = document.createElementNS(SVG, "svg");
    const box = { x: plot.left, y: yaxis._offset, width: plot.width, height: yaxis._length };
    for (const [attribute, value] of Object.entries(box)) row.setAttribute(attribute, value);
    const x = (edge) => plot.xaxis.d2p(edge).toFixed(1);
    const y = (value) => yaxis.d2p(value).toFixed(1);
    const steps = values.map((value, i) => `V${y(value)}H${x(i + 1.5)}`).join("");
    for (const className of ["rim", "cut"]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", className);
      path.setAttribute("d", `M${x(0.5)} ${y(values[0])}${steps}`);
      row.append(path);
    }
    drawing.append(row);
  }
}

// --- the click --------------------------------------------------------------------------------------------------

// The event's place along the x axis in pixels; null outside of the plot.
function alongOf(chart, event) {
  const plot = plotOf(chart);
  const frame = chart.querySelector(".svg-container")?.getBoundingClientRect();
  if (!plot || !frame) return null;
  const along = event.clientX - frame.left - plot.left;
  const down = event.clientY - frame.top - plot.top;
  return along >= 0 && along <= plot.width && down >= 0 && down <= plot.height ? along : null;
}

function press(marker, event) {
  const { chart } = marker;
  if (!event.isPrimary || event.button !== 0 || alongOf(chart, event) === null) return;
  chart.focus({ preventScroll: true });
  const ended = new AbortController();
  // Plotly covers the window while a button is down, so the release is not heard on the chart.
  const options = { capture: true, signal: ended.signal };
  window.addEventListener("pointercancel", () => ended.abort(), options);
  window.addEventListener(
    "pointerup",
    (release) => {
      if (release.pointerId !== event.pointerId) return;
      ended.abort();
      if (chart !== marker.chart) return;
      if (isNear(event, release)) click(marker, event);
      else marker.lastClick = null; // a drag, whose zoom is meant
    },
    options,
  );
}

function isNear(one, other) {
  return Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) <= MOST_PIXELS_OF_A_CLICK;
}

function click(marker, event) {
  const { chart, choice, data, lastClick } = marker;
  const isSecond = lastClick && event.timeStamp - lastClick.event.timeStamp < DOUBLE_CLICK_MS;
  if (isSecond && isNear(event, lastClick.event)) return;
  const { xaxis } = plotOf(chart);
  const step = Math.round(xaxis.p2d(alongOf(chart, event)));
  marker.lastClick = { event, range: String(xaxis.range), before: choice.position };
  choice.choose(Math.min(Math.max(step, 1), data.length) - 1);
}

// A double click shows the whole run again. Its first click has chosen a step that nobody asked for.
function takeBack(marker) {
  const { chart, choice, lastClick } = marker;
  marker.lastClick = null;
  if (!lastClick || performance.now() - lastClick.event.timeStamp > RELAYOUT_WITHIN_MS) return;
  if (lastClick.before !== null && String(chart._fullLayout.xaxis.range) !== lastClick.range) {
    choice.choose(lastClick.before);
  }
}
