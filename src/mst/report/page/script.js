"use strict";
(async () => {
  // Charts are pictures until plotly.js is unpacked; where that fails they stay pictures.
  const byId = (id) => document.getElementById(id);
  const packed = byId("plotly").textContent;
  if (!packed || !window.DecompressionStream) return;
  const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const library = document.createElement("script");
  library.textContent = await new Response(stream).text();
  document.head.append(library);

  const theme = JSON.parse(byId("theme").textContent);
  const isDark = window.matchMedia("(prefers-color-scheme: dark)");
  const isNarrow = window.matchMedia("(max-width: 40rem)");
  const colour = (name) => theme[name][isDark.matches ? 1 : 0];
  const resolved = (key, value) => (typeof value === "string" && value in theme ? colour(value) : value);
  const axis = () => ({
    automargin: true, gridcolor: colour("--line"), linecolor: colour("--soft"), tickcolor: colour("--soft"),
    ticks: "outside", ticklen: 4, zeroline: false, title: { standoff: 10 },
  });

  const draw = (figure) => {
    const { data, layout } = JSON.parse(figure.querySelector("script").textContent, resolved);
    const of_axis = (given) => ({ ...axis(), ...given, title: { ...axis().title, ...given.title } });
    const several = data.filter((each) => each.showlegend !== false).length > 1;
    return Plotly.react(figure.querySelector(".plot"), data, {
      ...layout,
      xaxis: of_axis(layout.xaxis), yaxis: of_axis(layout.yaxis),
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: isNarrow.matches ? 10 : 12, color: colour("--ink") },
      hoverlabel: { bgcolor: colour("--wash"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--ink") },
      margin: { l: 10, r: 12, t: several ? 46 : 30, b: 10 }, bargap: 0.2, showlegend: several,
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.0, yanchor: "bottom", traceorder: "normal", itemsizing: data.every((each) => each.mode === "markers") ? "constant" : "trace" },
    }, { responsive: true, displaylogo: false, displayModeBar: !isNarrow.matches, modeBarButtons: [["toImage", "zoom2d", "resetScale2d"]] });
  };

  const figures = [...document.querySelectorAll("figure.chart")];
  const drawAll = async () => {
    for (const figure of figures) {
      figure.classList.add("drawn");
      await draw(figure);
    }
    document.documentElement.dataset.drawn = String(figures.length);
  };
  await drawAll();
  isDark.addEventListener("change", drawAll);
  isNarrow.addEventListener("change", drawAll);
  // A plot within closed details has no width yet.
  for (const details of document.querySelectorAll("details")) {
    details.addEventListener("toggle", () => {
      for (const plot of details.querySelectorAll(".plot")) Plotly.Plots.resize(plot);
    });
  }
})();
