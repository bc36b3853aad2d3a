"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { text: of("--text"), line: of("--line"), panel: of("--panel") };
}

// A page that is read at phone width and in the dark: size and colours are the page's, and follow it.
function themed(layout) {
  const { text, line, panel } = colours();
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  const menus = (layout.updatemenus || []).map((menu) => ({ ...menu, bgcolor: panel, bordercolor: line }));
  return {
    ...layout,
    template: undefined,
    autosize: true,
    height: layout.height || 420,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, size: 12 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: text },
    margin: { l: 56, r: 16, t: menus.length ? 48 : 16, b: 48 },
    legend: { orientation: "h", y: -0.2 },
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
    updatemenus: menus,
  };
}

function draw() {
  for (const script of document.querySelectorAll("script[data-figure]")) {
    const { data, layout } = JSON.parse(script.textContent);
    const buttons = { displayModeBar: window.innerWidth > 700, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
    const config = { responsive: true, displaylogo: false, ...buttons };
    Plotly.react(script.dataset.figure, data, themed(layout), config);
  }
}

if (window.Plotly) {
  draw();
  dark.addEventListener("change", draw);
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.nextElementSibling.textContent);
    button.textContent = "Copied";
  });
}
