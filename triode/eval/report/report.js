// Puts the page together.

function setUpTheme() {
  const button = $("#theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (state.theme ? state.theme === "dark" : prefersDark.matches);
  button.addEventListener("click", () => change({ theme: dark() ? "light" : "dark" }));
  whenChanged(() => {
    if (state.theme) root.dataset.theme = state.theme;
    else delete root.dataset.theme;
    button.setAttribute("aria-label", `Switch to ${dark() ? "light" : "dark"} colours`);
    button.textContent = dark() ? "Light" : "Dark";
  });
}

function setUpLinks() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    const target = link && document.getElementById(link.getAttribute("href").slice(1));
    if (!target) return;
    event.preventDefault();
    change({ at: target.id });
    target.scrollIntoView();
    target.focus({ preventScroll: true });
  });
  addEventListener("hashchange", () => {
    change(readHash());
    if (state.at) document.getElementById(state.at)?.scrollIntoView();
  });
}

Object.assign(state, readHash());
setUpTheme();
setUpLinks();
const charts = [setUpCurves()];
if ($("#speed-plots")) charts.push(...setUpSpeed());
if ($("#items-plot")) charts.push(setUpItems());
for (const host of $$(".legend")) {
  const scatter = host.dataset.published === "no"; // of measured codecs, without lines
  const measured = D.codecs.map((codec, at) => ({ ...seriesOf(codec, at), line: !scatter }));
  legend(host, scatter ? measured : [...measured, ...D.published.map(publishedSeries)], charts);
}
setUpTables();
if ($("#viewer")) setUpViewer();
if ($("#listener")) setUpListening();
setUpData();
change({});
if (state.at) document.getElementById(state.at)?.scrollIntoView({ behavior: "instant" });
root.dataset.ready = "yes";
