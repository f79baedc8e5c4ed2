"use strict";
for (const figure of document.querySelectorAll(".chart")) {
  const svg = figure.querySelector("svg");
  const tip = figure.querySelector(".tip");
  const pointer = figure.querySelector(".pointer");
  const buttons = [...figure.querySelectorAll(".legend button")];
  const curves = [...figure.querySelectorAll(".curve")];
  const points = curves.map((curve) =>
    curve.dataset.values.split(";").map((value) => {
      const [at, x, y] = value.split("|");
      return { at: Number(at), x, y };
    }));
  buttons.forEach((button, number) => {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      if (curves[number]) curves[number].classList.toggle("off", !shown);
    });
  });
  const leave = () => { tip.style.visibility = pointer.style.visibility = "hidden"; };
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    let nearest = null;
    const lines = [];
    for (const [number, button] of buttons.entries()) {
      if (button.getAttribute("aria-pressed") !== "true") continue;
      let best = null;
      for (const point of points[number] ?? []) {
        if (!best || Math.abs(point.at - at) < Math.abs(best.at - at)) best = point;
      }
      if (!best) continue;
      if (!nearest || Math.abs(best.at - at) < Math.abs(nearest.at - at)) nearest = best;
      lines.push(`${button.textContent}  ${best.y}`);
    }
    if (!nearest) return leave();
    tip.textContent = [nearest.x, ...lines].join("\n");
    pointer.setAttribute("x1", nearest.at);
    pointer.setAttribute("x2", nearest.at);
    const left = (nearest.at / svg.viewBox.baseVal.width) * box.width;
    const flip = left > box.width / 2;
    tip.style.left = flip ? "auto" : `${left + 12}px`;
    tip.style.right = flip ? `${box.width - left + 12}px` : "auto";
    tip.style.top = `${svg.offsetTop + 16}px`;
    tip.style.visibility = pointer.style.visibility = "visible";
  });
}
