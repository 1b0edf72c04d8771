// Copy buttons and local times. Without a script a page lacks the buttons, and its times are in UTC.
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
    button.textContent = isCopied ? document.body.dataset.copied : document.body.dataset.copyFailed;
    button.classList.add(isCopied ? "done" : "failed");
    window.setTimeout(() => {
      button.textContent = label;
      button.classList.remove("done", "failed");
    }, 2000);
  });
}

// A moment in the reader's own time, in the order that sorts; which zone that is stands once on the page, and in each tooltip.
function localise(node) {
  const moment = new Date(node.dateTime);
  const two = (number) => String(number).padStart(2, "0");
  const day = `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;
  const time = `${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}`;
  node.textContent = { time, short: `${day.slice(5)} ${time}` }[node.dataset.form] ?? `${day} ${time}`;
  node.title = `${day} ${time} ${zone}`;
}

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
for (const node of document.querySelectorAll("time[data-form]")) localise(node);
for (const node of document.querySelectorAll(".zone")) node.textContent = `${node.dataset.words} ${zone}`;
