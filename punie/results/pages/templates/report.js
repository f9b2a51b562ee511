"use strict";

// Filters the responses, and opens the one that the address names. Without it every response can still be read.
(() => {
  const form = document.getElementById("filter");
  const responses = [...document.querySelectorAll("details.response")];
  const texts = new Map(); // a response's text in lower case, once it was searched
  const found = (response, words) => {
    if (!texts.has(response)) texts.set(response, response.textContent.toLowerCase());
    return texts.get(response).includes(words);
  };

  const filter = () => {
    const chosen = [...form.querySelectorAll("select")].filter((select) => select.value);
    const words = form.elements.text.value.trim().toLowerCase();
    let count = 0;
    for (const response of responses) {
      response.hidden =
        !chosen.every((select) => response.dataset[select.name].split(",").includes(select.value)) ||
        (words !== "" && !found(response, words));
      count += !response.hidden;
    }
    form.querySelector("output").value = `${count} of ${responses.length} responses`;
  };

  const openNamed = () => {
    const body = document.getElementById(location.hash.slice(1));
    const response = body && body.closest("details.response");
    if (!response) return;
    if (response.hidden) {
      form.reset();
      filter();
    }
    response.open = true;
    response.scrollIntoView();
    response.querySelector("summary").focus({ preventScroll: true });
  };

  const setAll = (open) => () => {
    for (const response of responses) if (!response.hidden) response.open = open;
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
