"use strict";
// Draws the figures in the colours of the current theme, and again when the theme, the printer or a legend button says so.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const hidden = new Set();
  let late = false;
  const touch = matchMedia("(hover: none), (pointer: coarse)").matches;

  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const faded = (hex, alpha) => {
    const part = (at) => parseInt(hex.slice(at, at + 2), 16);
    return `rgba(${part(1)},${part(3)},${part(5)},${alpha})`;
  };

  function painted(figure) {
    const { data, layout } = structuredClone(figure);
    for (const trace of data) {
      const own = colour(trace.meta.colour === "ink" ? "ink" : "c" + trace.meta.colour);
      trace.visible = !hidden.has(trace.meta.variant);
      trace.showlegend = false;
      trace.line = { ...trace.line, color: own };
      trace.marker = { ...trace.marker, color: trace.meta.role === "seed" ? faded(own, 0.75) : own };
      if (trace.mode === "text") trace.textfont = { color: own };
      if (trace.type === "heatmap") Object.assign(trace, { colorscale: [[0, colour("paper")], [1, own]], showscale: false });
      if (trace.meta.role === "band") trace.fillcolor = faded(own, 0.16);
      for (const bar of ["error_x", "error_y"]) if (trace[bar]) trace[bar].color = own;
    }
    const ink = colour("ink"), quiet = colour("quiet"), paper = colour("paper");
    layout.font = { family: "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif", size: 12, color: ink };
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.hoverlabel = { bgcolor: paper, bordercolor: colour("rule"), font: { color: ink } };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: quiet, activecolor: ink };
    if (touch) layout.dragmode = false;
    for (const name of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
      const axis = layout[name];
      Object.assign(axis, { gridcolor: colour("grid"), linecolor: colour("rule"), zeroline: false, tickfont: { color: quiet } });
      if (axis.title) axis.title.font = { size: 12, color: quiet };
    }
    if (late && figure.late) layout.yaxis.range = figure.late;
    for (const shape of layout.shapes || []) shape.line = { color: quiet, width: 1.2, dash: "dot" };
    return { data, layout };
  }

  function draw(element) {
    const { data, layout } = painted(figures[element.dataset.figure]);
    return Plotly.react(element, data, layout, {
      responsive: true,
      displaylogo: false,
      displayModeBar: touch ? false : "hover",
      modeBarButtons: [["toImage", "resetScale2d"]],
      showSendToCloud: false, // plotly.js 4 shows by default a button that uploads the figure
      plotlyServerURL: "",
    });
  }

  // A plot in a closed box has no width; it is drawn when the box opens.
  const closed = (element) => element.closest("details:not([open])") !== null;
  const drawAll = () => Promise.all([...document.querySelectorAll("[data-figure]")].filter((e) => !closed(e)).map(draw));

  for (const box of document.querySelectorAll("details")) {
    box.addEventListener("toggle", () => box.open && box.querySelectorAll("[data-figure]").forEach(draw));
  }
  for (const button of document.querySelectorAll("[data-variant]")) {
    button.addEventListener("click", () => {
      const variant = Number(button.dataset.variant);
      const hide = !hidden.has(variant);
      hidden[hide ? "add" : "delete"](variant);
      document.querySelectorAll(`[data-variant="${variant}"]`).forEach((b) => b.setAttribute("aria-pressed", String(!hide)));
      drawAll();
    });
  }
  for (const button of document.querySelectorAll("[data-late]")) {
    button.addEventListener("click", () => {
      late = !late;
      document.querySelectorAll("[data-late]").forEach((b) => b.setAttribute("aria-pressed", String(late)));
      drawAll();
    });
  }
  // A clip moves until it is paused; paused, it is its first frame. Where less motion is wanted it begins paused.
  async function pausable(clip) {
    await clip.decode();
    const still = document.createElement("canvas");
    [still.width, still.height] = [clip.naturalWidth, clip.naturalHeight];
    still.getContext("2d").drawImage(clip, 0, 0);
    still.setAttribute("role", "img");
    still.setAttribute("aria-label", clip.alt);
    const button = document.createElement("button");
    const pause = (paused) => {
      [clip.hidden, still.hidden] = [paused, !paused];
      button.textContent = paused ? "Play" : "Pause";
    };
    button.className = "pause";
    button.addEventListener("click", () => pause(!clip.hidden));
    pause(matchMedia("(prefers-reduced-motion: reduce)").matches);
    clip.after(still, button);
  }
  document.querySelectorAll("img[data-clip]").forEach(pausable);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  // Paper is white whatever the theme, and nobody can open a box on it.
  addEventListener("beforeprint", () => {
    root.dataset.printing = "";
    document.querySelectorAll("details").forEach((box) => { box.open = true; });
    drawAll();
  });
  addEventListener("afterprint", () => { delete root.dataset.printing; drawAll(); });
  drawAll().then(() => { root.dataset.drawn = ""; });
})();
