// Copy buttons. Without a script the page lacks them and nothing else.
"use strict";

function select(node) {
  const range = document.createRange();
  range.selectNodeContents(node);
  const selection = window.getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

// The clipboard is there on secure pages only, and so not on a gateway elsewhere that is called by plain HTTP.
async function copy(node) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(node.textContent);
      return true;
    } catch (error) {
      // not allowed: the old way may be
    }
  }
  select(node);
  return document.execCommand("copy");
}

for (const button of document.querySelectorAll("button.copy")) {
  const label = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const isCopied = await copy(button.parentElement.querySelector("pre"));
    button.textContent = isCopied ? document.body.dataset.copied : document.body.dataset.failed;
    button.classList.add(isCopied ? "done" : "failed");
    window.setTimeout(() => {
      button.textContent = label;
      button.classList.remove("done", "failed");
    }, 2000);
  });
}
