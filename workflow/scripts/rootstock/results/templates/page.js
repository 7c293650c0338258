// The page is complete without this script: tables are in its HTML. It adds sorting, filtering and paging to long ones.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark", dark.matches); // the class that DataTables looks for
follow();
dark.addEventListener("change", follow);

// For printing, open what is closed and shrink tables to 660 pixels, the width of an upright page, wide ones to 1000.
const opened = [];
addEventListener("beforeprint", () => {
  for (const table of document.querySelectorAll("table")) {
    const room = table.closest("section:has(.table.wide)") ? 1000 : 660;
    table.style.zoom = Math.min(0.75, room / table.scrollWidth);
  }
  for (const one of document.querySelectorAll("details:not([open])")) {
    one.open = true;
    opened.push(one);
  }
});
addEventListener("afterprint", () => {
  for (const table of document.querySelectorAll("table")) table.style.zoom = "";
  for (const one of opened.splice(0)) one.open = false;
});

async function turnPages(bundle) {
  const bytes = Uint8Array.from(atob(bundle.textContent), (letter) => letter.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([bytes], { type: "text/javascript" }));
  const { default: DataTable } = await import(url);
  URL.revokeObjectURL(url);
  const language = { search: "Filter", lengthMenu: "_MENU_ rows", info: "_START_ to _END_ of _TOTAL_", infoFiltered: "(of _MAX_)" };
  const lengthMenu = [10, 50, 200, { label: "all", value: -1 }];
  for (const table of document.querySelectorAll("table.long")) {
    new DataTable(table, { order: [], pageLength: 10, lengthMenu, autoWidth: false, language });
  }
}

try {
  const bundle = document.getElementById("tables");
  if (bundle) await turnPages(bundle);
} finally {
  document.documentElement.classList.remove("turning"); // if it failed, all rows are shown
  document.documentElement.dataset.ready = "yes";
}
