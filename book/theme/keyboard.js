// What readers at the keyboard, and on a phone, miss in mdBook.

// The first stop of the Tab key leads past the list of chapters to the text.
const skip = document.createElement("a");
skip.className = "skip";
skip.href = "#mdbook-content";
skip.textContent = "Skip to the text";
document.body.prepend(skip);
document.getElementById("mdbook-content").tabIndex = -1;

// What shows that list is a label, at which the Tab key does not stop: a button
// stands for it.
const list = document.getElementById("mdbook-sidebar-toggle");
const shown = document.getElementById("mdbook-sidebar-toggle-anchor");
const button = document.createElement("button");
button.className = list.className;
button.title = list.title;
button.setAttribute("aria-label", "The list of chapters");
button.innerHTML = list.innerHTML;
button.addEventListener("click", () => list.click());
const say = () => button.setAttribute("aria-expanded", shown.checked);
shown.addEventListener("change", say);
say();
list.before(button);
list.style.display = "none";

// The bar above belongs to every page.
document.getElementById("mdbook-menu-bar").setAttribute("role", "banner");

// A corner of a table that says nothing is no heading.
for (const head of document.querySelectorAll("main th"))
    if (!head.textContent.trim())
        head.replaceWith(document.createElement("td"));

// In a box that is too wide, the arrow keys scroll; elsewhere they turn pages.
addEventListener("keydown", event => {
    const box = document.activeElement;
    const wide = box.closest("main") && box.clientWidth > 0
        && box.scrollWidth > box.clientWidth;
    if (wide && /^Arrow(Left|Right)$/.test(event.key)) event.stopPropagation();
}, true);

// What is wider than its box says so; at its end it no longer does.
const wide = document.querySelectorAll(
    "main :is(.table-wrapper, .drawing, .formula, .katex-display, pre > code)");
const look = box => {
    const more = box.scrollWidth - box.clientWidth;
    const scrolls = box.clientWidth > 0 && more > 1;
    box.classList.toggle("scrolls", scrolls);
    if (scrolls) box.tabIndex = 0; // so that the arrow keys reach it
    box.classList.toggle("end", Math.abs(box.scrollLeft) > more - 4);
};
const watch = new ResizeObserver(all =>
    requestAnimationFrame(() => all.forEach(e => look(e.target))));
for (const box of wide) {
    watch.observe(box);
    box.addEventListener("scroll", () => look(box), { passive: true });
}
// A font that comes late makes a formula wider, and its box stays as it was.
const fonts = () => wide.forEach(look);
document.fonts.ready.then(fonts);
document.fonts.addEventListener("loadingdone", fonts);

// Each line of Rust is an element, which knows how far it is set in: on a
// phone it goes on below, deeper.
const rust = "main pre > code:is(.language-rs, .language-rust)";
for (const code of document.querySelectorAll(rust)) {
    if (code.querySelector(".boring")) continue;
    const open = [];
    const lines = code.innerHTML.replace(/\n$/, "").split("\n").map(html => {
        const before = open.join("");
        for (const [tag] of html.matchAll(/<span[^>]*>|<\/span>/g))
            tag[1] === "/" ? open.pop() : open.push(tag);
        const indent = html.replace(/<[^>]*>/g, "").search(/\S|$/);
        return `<span class="line" style="--indent: ${indent}ch">${before}`
            + `${html}${"</span>".repeat(open.length)}\n</span>`;
    });
    code.innerHTML = lines.join("");
}
