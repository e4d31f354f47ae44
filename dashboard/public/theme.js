// Dark or light: the system's choice, unless the button has chosen. A classic script in the head, so that nothing flashes.
(() => {
  const KEY = "rlhf-theme";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const announce = () => dispatchEvent(new CustomEvent("themechange"));
  const chosen = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is off: the choice lasts for this page
    }
  };
  const known = chosen();
  if (known === "dark" || known === "light") root.dataset.theme = known;
  system.addEventListener("change", announce);
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme")?.addEventListener("click", () => {
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
      root.dataset.theme = dark ? "light" : "dark";
      try {
        localStorage.setItem(KEY, root.dataset.theme);
      } catch {
        // as above
      }
      announce();
    });
  });
})();
