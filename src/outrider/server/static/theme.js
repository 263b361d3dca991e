// Before the first paint: light or dark, where it was chosen. Without a choice the system decides (see style.css).
{
  const chosen = localStorage.getItem("outrider-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
}
