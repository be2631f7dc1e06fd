// What readers at the keyboard miss in mdBook.

// The first stop of the Tab key leads past the list of chapters to the text.
const skip = document.createElement("a");
skip.className = "skip";
skip.href = "#mdbook-content";
skip.textContent = "Skip to the text";
document.body.prepend(skip);
document.getElementById("mdbook-content").tabIndex = -1;

// What shows that list is a label, at which the Tab key does not stop.
const list = document.getElementById("mdbook-sidebar-toggle");
list.setAttribute("role", "button");
list.tabIndex = 0;
list.addEventListener("keydown", event => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    list.click();
});

// In a box that is too wide, the arrow keys scroll; elsewhere they turn pages.
addEventListener("keydown", event => {
    const box = document.activeElement;
    const wide = box.closest("main") && box.clientWidth > 0
        && box.scrollWidth > box.clientWidth;
    if (wide && /^Arrow(Left|Right)$/.test(event.key)) event.stopPropagation();
}, true);
