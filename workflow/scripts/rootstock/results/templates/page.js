// Without this script the page is whole: tables are in its HTML. It adds sorting, filtering and pages to the long ones.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark", dark.matches); // the class that DataTables looks for
follow();
dark.addEventListener("change", follow);

// What is closed is opened on paper.
const opened = [];
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details:not([open])")) {
    one.open = true;
    opened.push(one);
  }
});
addEventListener("afterprint", () => opened.splice(0).forEach((one) => (one.open = false)));

const bundle = document.getElementById("tables");
if (bundle) {
  const bytes = Uint8Array.from(atob(bundle.textContent), (letter) => letter.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([bytes], { type: "text/javascript" }));
  const { default: DataTable } = await import(url);
  URL.revokeObjectURL(url);
  for (const table of document.querySelectorAll("table.long")) {
    new DataTable(table, {
      order: [],
      pageLength: 10,
      lengthMenu: [10, 50, 200, { label: "all", value: -1 }],
      autoWidth: false,
      language: { search: "Filter", lengthMenu: "_MENU_ rows", info: "_START_ to _END_ of _TOTAL_", infoFiltered: "(of _MAX_)" },
    });
  }
}
document.documentElement.dataset.ready = "yes";
