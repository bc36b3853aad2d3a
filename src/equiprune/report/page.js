"use strict";

const root = document.documentElement;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const figures = new Map();

function colours() {
  const style = getComputedStyle(root);
  const of = (name) => style.getPropertyValue(name).trim();
  return { text: of("--text"), line: of("--line") };
}

// A page that is read at phone width and in the dark: size and colours are the page's, and follow it.
function themed(layout) {
  const { text, line } = colours();
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  return {
    ...layout,
    template: undefined,
    autosize: true,
    height: layout.height || 420,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, size: 12 },
    margin: { l: 56, r: 16, t: 16, b: 48 },
    legend: { orientation: "h", y: -0.3 },
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
    updatemenus: [],
  };
}

function read(script) {
  const { data, layout } = JSON.parse(script.textContent);
  const menu = (layout.updatemenus || [])[0];
  const choices = menu ? menu.buttons.map((button) => button.args) : [];
  figures.set(script.dataset.figure, { data, layout, choices });
}

// What was chosen is part of the figure, so that it stays when the colours change.
function choose(name, number) {
  const figure = figures.get(name);
  const [traces, { "yaxis.title.text": title }] = figure.choices[number];
  figure.data.forEach((trace, i) => { trace.visible = traces.visible[i]; });
  if (figure.layout.yaxis.title) figure.layout.yaxis.title.text = title;
  draw(name);
}

function draw(name) {
  const { data, layout } = figures.get(name);
  Plotly.react(name, data, themed(layout), { responsive: true, displayModeBar: false });
}

function drawAll() {
  for (const name of figures.keys()) draw(name);
}

function say(text) {
  document.getElementById("said").textContent = text;
}

if (window.Plotly) {
  document.querySelectorAll("script[data-figure]").forEach(read);
  drawAll();
  dark.addEventListener("change", drawAll);
}

for (const menu of document.querySelectorAll(".choice")) {
  menu.addEventListener("change", () => choose(menu.dataset.for, Number(menu.value)));
}

for (const button of document.querySelectorAll(".picture")) {
  button.addEventListener("click", () => {
    Plotly.downloadImage(button.dataset.for, { format: "svg", filename: button.dataset.for });
  });
}

// Where a page may not write to the clipboard, the lines are selected, to be copied by hand.
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const lines = document.getElementById(button.dataset.for);
    try {
      await navigator.clipboard.writeText(lines.textContent);
      button.textContent = "Copied";
      say("Copied");
    } catch {
      getSelection().selectAllChildren(lines);
      say("Selected; copy by hand");
    }
  });
}

// On paper: everything open, light colours; afterwards as it was.
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const details of opened) details.open = true;
  root.dataset.printing = "";
  if (window.Plotly) drawAll();
});
window.addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
  delete root.dataset.printing;
  if (window.Plotly) drawAll();
});
