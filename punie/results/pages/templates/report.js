"use strict";

// Filters the answers, and opens the one that the address names. Without it every answer can still be read.
(() => {
  const form = document.getElementById("filter");
  const answers = [...document.querySelectorAll("details.answer")];
  const texts = new Map(); // an answer's text in lower case, once it was searched
  const found = (answer, words) => {
    if (!texts.has(answer)) texts.set(answer, answer.textContent.toLowerCase());
    return texts.get(answer).includes(words);
  };

  const filter = () => {
    const chosen = [...form.querySelectorAll("select")].filter((select) => select.value);
    const words = form.elements.text.value.trim().toLowerCase();
    let count = 0;
    for (const answer of answers) {
      answer.hidden =
        !chosen.every((select) => answer.dataset[select.name].split(",").includes(select.value)) ||
        (words !== "" && !found(answer, words));
      count += !answer.hidden;
    }
    form.querySelector("output").value = `${count} of ${answers.length} answers`;
  };

  const openNamed = () => {
    const body = document.getElementById(location.hash.slice(1));
    const answer = body && body.closest("details.answer");
    if (!answer) return;
    if (answer.hidden) {
      form.reset();
      filter();
    }
    answer.open = true;
    answer.scrollIntoView();
    answer.querySelector("summary").focus({ preventScroll: true });
  };

  const setAll = (open) => () => {
    for (const answer of answers) if (!answer.hidden) answer.open = open;
  };

  form.addEventListener("input", filter);
  form.addEventListener("change", filter); // what drives a browser sends no more than this for a select
  form.addEventListener("reset", () => setTimeout(filter)); // once the fields are empty
  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.open.addEventListener("click", setAll(true));
  form.elements.close.addEventListener("click", setAll(false));
  addEventListener("hashchange", openNamed);
  form.hidden = false;
  filter();
  openNamed();
})();
