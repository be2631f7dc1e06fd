// The first stop of the Tab key leads past the list of chapters to the text.
const skip = document.createElement("a");
skip.className = "skip";
skip.href = "#mdbook-content";
skip.textContent = "Skip to the text";
document.body.prepend(skip);
document.getElementById("mdbook-content").tabIndex = -1;
