"use strict";
// The page of an index. What is searched for lives in `state`, and all of it is in the address, so that Back,
// Reload and links work. Of a photo the address has a key; the photo itself stays in this browser.

const $ = (id) => document.getElementById(id);
const limit = Number(document.body.dataset.upload);
const state = { id: null, photo: null, file: null, box: null, generation: "", path: [], label: [], unlike: [] };
let turn = 0; // answers to earlier requests are dropped
let shown = null; // object URL of the uploaded photo

const pairs = (of, ...names) => names.flatMap((name) => of[name].map((value) => [name, value]));
const searching = () => state.file !== null || state.id !== null;

function tell(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

// The address of what is searched for, or would be.
function link(of) {
  const query = new URLSearchParams(pairs(of, "path", "label"));
  if (of.id !== null || of.photo) {
    query.set(...(of.photo ? ["photo", of.photo] : ["id", of.id]));
    for (const pair of pairs(of, "unlike")) query.append(...pair);
    if (of.generation && !(of.photo && !of.unlike.length)) query.set("generation", of.generation);
    if (of.box) query.set("box", boxText(of.box));
  }
  if ($("k").value !== "24") query.set("k", $("k").value);
  return query.size ? `?${query}` : location.pathname;
}

function remember(push) {
  history[push ? "pushState" : "replaceState"]({}, "", link(state));
}

// How far down the page was, for Back: its results come later than the browser would scroll.
history.scrollRestoration = "manual";
let resting = 0;
addEventListener("scroll", () => {
  clearTimeout(resting);
  resting = setTimeout(() => history.replaceState({ top: scrollY }, ""), 150);
});

// Photos that were chosen lately, kept in this browser under keys that begin with the time.
const KEPT = 40;
const here = new Map(); // for browsers that keep nothing
const SLOW = 10_000; // milliseconds after which the page goes on: there are browsers that never answer
const base = new Promise((resolve) => {
  setTimeout(() => resolve(null), SLOW);
  try {
    const request = indexedDB.open("vggfeat", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("photos");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(null);
  } catch {
    resolve(null);
  }
});

async function stored(mode, ask) {
  const opened = await base;
  if (!opened) return null;
  return new Promise((resolve) => {
    setTimeout(() => resolve(null), SLOW);
    const request = ask(opened.transaction("photos", mode).objectStore("photos"));
    request.onsuccess = () => resolve(request.result ?? null);
    request.onerror = () => resolve(null);
  });
}

async function keep(key, file) {
  here.set(key, file);
  await stored("readwrite", (photos) => photos.put(file, key));
  const keys = (await stored("readonly", (photos) => photos.getAllKeys())) || [];
  for (const old of keys.slice(0, -KEPT)) stored("readwrite", (photos) => photos.delete(old));
}

const kept = async (key) => here.get(key) || stored("readonly", (photos) => photos.get(key));

function newKey() {
  const random = [...crypto.getRandomValues(new Uint32Array(2))];
  return [Date.now(), ...random].map((number) => number.toString(36)).join("-");
}

async function recall() {
  const mine = ++turn;
  const query = new URLSearchParams(location.search);
  const number = (text) => (/^\d+$/.test(text || "") ? [Number(text)] : []);
  const parts = (query.get("box") || "").split(",").map(parseFloat);
  const [x, y, w, h] = parts;
  const photo = query.get("photo");
  const file = photo ? await kept(photo) : null;
  if (mine !== turn) return;
  const lost = photo && !file;
  Object.assign(state, {
    id: photo ? null : number(query.get("id"))[0] ?? null,
    photo: file && photo,
    file,
    box: !lost && parts.length === 4 && parts.every(Number.isFinite) ? { x, y, w, h } : null,
    generation: query.get("generation") || "",
    path: query.getAll("path").filter(Boolean),
    label: query.getAll("label").filter(Boolean),
    unlike: lost ? [] : query.getAll("unlike").flatMap(number),
  });
  $("k").value = query.get("k") || "24";
  showQuery(file ? file.name || "Pasted photo" : state.id === null ? "" : `Image ${state.id}`);
  const top = history.state?.top || 0;
  await ask();
  if (lost) tell("This address is of a photo that was chosen in another browser, or long ago. Choose it here to search for it.", true);
  scrollTo({ top, behavior: "instant" });
}

function boxText({ x, y, w, h }) {
  return [x, y, w, h].map((value) => `${value.toFixed(2)}%`).join(",");
}

async function ask() {
  const mine = ++turn;
  const focused = $("results").contains(document.activeElement);
  tell("Searching …");
  showChosen();
  $("results").classList.add("busy");
  try {
    const answer = searching() ? await search() : await sample();
    if (mine !== turn) return;
    state.generation = answer.generation;
    if (answer.query) $("what").replaceChildren(...broken(answer.query.path));
    const found = answer.neighbours || answer.images;
    const time = answer.seconds === undefined ? "" : ` in ${(1000 * answer.seconds).toFixed(0)} ms`;
    const kind = answer.neighbours ? "most alike" : "to start from";
    show(found);
    if (focused) document.querySelector(".hit")?.focus({ preventScroll: true });
    const images = found.length === 1 ? "1 image" : `${found.length} images`;
    tell(found.length ? `${images} ${kind}${time}` : answer.hint || "No image fits the filters.");
  } catch (error) {
    if (mine !== turn) return;
    show([]);
    tell(error.message, true);
    if (error.stale) startAgain(error.message);
  } finally {
    if (mine === turn) $("results").classList.remove("busy");
  }
}

// The index was compacted or built anew: what the page calls 3 is another image by now.
async function startAgain(reason) {
  Object.assign(state, { id: null, box: null, unlike: [], generation: "" });
  showQuery(state.file ? state.file.name : "");
  remember(false);
  await ask();
  tell(`${reason} ${$("status").textContent}`, true);
}

function search() {
  const form = new FormData();
  if (state.file) form.set("image", state.file, state.file.name || "pasted");
  else form.set("id", state.id);
  form.set("k", $("k").value || "24");
  form.set("generation", state.generation);
  for (const pair of pairs(state, "path", "label", "unlike")) form.append(...pair);
  if (state.box) form.set("box", boxText(state.box));
  return payload(fetch("/api/search", { method: "POST", body: form }));
}

function sample() {
  const query = new URLSearchParams([...pairs(state, "path", "label"), ["k", $("k").value || "24"]]);
  return payload(fetch(`/api/sample?${query}`));
}

async function payload(request) {
  let answer;
  try {
    answer = await request;
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const value = await answer.json().catch(() => ({ error: `The server failed (${answer.status}).` }));
  if (!answer.ok) throw Object.assign(new Error(value.error), { stale: answer.status === 409 });
  return value;
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function show(images) {
  uncover();
  const largest = Math.max(1, ...images.map((one) => Math.abs(one.score ?? 0)));
  const digits = Math.max(0, 4 - Math.floor(Math.log10(largest))); // as many digits in each score
  $("results").replaceChildren(...images.map((one) => card(one, digits)));
}

const address = (kind, id, more = "") =>
  `/api/${kind}/${id}?generation=${encodeURIComponent(state.generation)}${more}`;

function thumbnail(id) {
  const image = element("img", { src: address("thumbnail", id), alt: "", loading: "lazy" });
  const mat = element("div", { class: "mat" }, image);
  image.addEventListener("error", () => mat.replaceChildren("The original is not there"));
  return mat;
}

// A path whose lines break after a slash where they can.
const broken = (path) => path.split(/(?<=\/)/).flatMap((part) => [part, element("wbr", {})]);

function card(one, digits) {
  const line = element("div", { class: "line" });
  if (one.score !== undefined) line.append(element("strong", {}, one.score.toFixed(digits)));
  if (one.label) line.append(element("span", { class: "chip" }, one.label));
  const hit = element("a", { class: "hit", href: link(chosenImage(one.id)) }, thumbnail(one.id), line,
    element("p", { class: "path" }, ...broken(one.path)));
  hit.setAttribute("aria-label", `Search for images like ${one.path}`);
  hit.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    choose(one.id, one.path);
  });
  const more = element("div", { class: "more" }, element("a", { class: "original",
    href: address("original", one.id), target: "_blank", rel: "noopener" }, "original"));
  if (searching()) {
    const why = element("button", { type: "button", class: "why", "aria-pressed": "false",
      title: "Show where this image is like the query" }, "why");
    why.addEventListener("click", () => compare(one, hit, why));
    held(hit, () => compare(one, hit, why));
    more.prepend(why);
    const less = element("button", { type: "button", class: "less", title: "Search for less like this" },
      "less like this");
    less.addEventListener("click", () => avoid(one.id));
    more.prepend(less);
  }
  return element("li", {}, hit, more);
}

// Where the query and a result are alike: a map over each, until another is asked for.

let compared = 0; // answers to earlier comparisons are dropped

function uncover() {
  compared += 1;
  for (const over of document.querySelectorAll(".mat img.over")) over.remove();
  for (const one of document.querySelectorAll(".mapped")) one.classList.remove("mapped");
  for (const one of document.querySelectorAll(".why")) one.setAttribute("aria-pressed", "false");
  $("alike").hidden = $("suggested").hidden = $("legend").hidden = true;
}

async function compare(one, hit, why) {
  const again = why.getAttribute("aria-pressed") === "true";
  uncover();
  if (again) return;
  const mine = compared;
  why.setAttribute("aria-pressed", "true");
  $("legend").hidden = false;
  $("meaning").textContent = "Comparing …";
  const form = new FormData();
  if (state.file) form.set("image", state.file, state.file.name || "pasted");
  else form.set("id", state.id);
  form.set("neighbour", one.id);
  form.set("generation", state.generation);
  if (state.box) form.set("box", boxText(state.box));
  try {
    const found = await payload(fetch("/api/explain", { method: "POST", body: form }));
    if (mine !== compared) return;
    $("alike").src = found.query.overlay;
    $("alike").hidden = false;
    $("frame").classList.add("mapped");
    const mat = hit.querySelector(".mat");
    mat.classList.add("mapped");
    const over = element("img", { class: "over", src: found.image.overlay, alt: "" });
    over.style.objectFit = "contain";
    mat.append(over);
    const at = ({ peak: [x, y] }) => `${(100 * x).toFixed(0)} % from the left and ${(100 * y).toFixed(0)} % from the top`;
    const scale = found.exact
      ? `±${found.reach.toPrecision(2)} of the ${found.measure} ${found.score.toFixed(4)}, for a hundredth of an image`
      : "as far as gradients tell";
    $("meaning").textContent = `Orange is alike, blue is unlike: ${scale}. Most is ${at(found.query)} of the query, ${at(found.image)} of ${one.path}.`;
    const [x, y, w, h] = (found.query.box || "").split(",").map(parseFloat);
    $("suggested").hidden = !found.query.box;
    $("suggested").onclick = () => setBox({ x, y, w, h });
  } catch (error) {
    if (mine !== compared) return;
    uncover();
    tell(error.message, true);
  }
}

// Calls back where a link is held for half a second; the click that ends it then leads nowhere.
function held(link, then) {
  let timer = 0;
  let was = false;
  link.addEventListener("pointerdown", (event) => {
    was = false;
    if (event.button) return;
    timer = setTimeout(() => { was = true; then(); }, 500);
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave", "dragstart"]) {
    link.addEventListener(end, () => clearTimeout(timer));
  }
  link.addEventListener("contextmenu", (event) => was && event.preventDefault());
  link.addEventListener("click", (event) => {
    if (!was) return;
    was = false;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, true);
}

const chosenImage = (id) => ({ ...state, id, photo: null, file: null, box: null, unlike: [] });

function choose(id, path) {
  Object.assign(state, chosenImage(id));
  showQuery(path);
  remember(true);
  ask();
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  scrollTo({ top: 0, behavior: still ? "auto" : "smooth" });
}

function avoid(id) {
  state.unlike = [...state.unlike, id];
  remember(true);
  ask();
}

// Filters and counterexamples that are chosen, each with a button that takes it away.

function showChosen() {
  for (const [name, list] of [["path", "paths"], ["label", "labels"], ["unlike", "unlikes"]]) {
    $(list)?.replaceChildren(...state[name].map((value) => chosen(name, value)));
  }
  $("less").hidden = !state.unlike.length;
  const count = state.path.length + state.label.length;
  $("count").textContent = count ? ` · ${count}` : "";
  for (const option of $("label")?.options || []) option.disabled = state.label.includes(option.value);
}

function chosen(name, value) {
  const what = name === "unlike" ? thumbnail(value) : String(value);
  const button = element("button", { type: "button", class: "chip", "data-name": name }, what,
    element("span", { "aria-hidden": "true" }, "×"));
  button.setAttribute("aria-label", `Without ${name === "unlike" ? "this counterexample" : value}`);
  button.addEventListener("click", () => change(name, state[name].filter((one) => one !== value)));
  return element("li", {}, button);
}

function change(name, values) {
  state[name] = [...new Set(values)];
  remember(true);
  ask();
}

function take(file) {
  if (!file) return;
  if (file.size > limit) {
    tell(`The photo has ${(file.size / 2 ** 20).toFixed(0)} MB; at most ${(limit / 2 ** 20).toFixed(0)} MB are taken.`, true);
    return;
  }
  Object.assign(state, { id: null, photo: newKey(), file, box: null, unlike: [] });
  keep(state.photo, file);
  showQuery(file.name || "Pasted photo");
  remember(true);
  ask();
}

function showQuery(name) {
  uncover();
  if (shown) URL.revokeObjectURL(shown);
  shown = state.file ? URL.createObjectURL(state.file) : null;
  const any = shown !== null || state.id !== null;
  $("what").replaceChildren(...broken(name));
  $("hint").hidden = any;
  $("drop").classList.toggle("asked", any);
  $("drop").classList.remove("large");
  $("frame").hidden = $("boxhelp").hidden = !any;
  if (any) $("query").src = shown || address("thumbnail", state.id, "&side=960");
  else $("query").removeAttribute("src");
  drawBox();
}

// A format that the browser cannot show, or an original that is gone.
$("query").addEventListener("error", () => {
  $("frame").hidden = $("boxhelp").hidden = true;
});

// The box: in percent of the image.

function drawBox() {
  const box = state.box;
  $("box").hidden = $("unbox").hidden = !box;
  if (!box) return;
  Object.assign($("box").style, {
    left: `${box.x}%`, top: `${box.y}%`, width: `${box.w}%`, height: `${box.h}%`,
  });
}

function setBox(box, search = true) {
  uncover();
  state.box = box;
  drawBox();
  if (!search) return;
  remember(true);
  ask();
}

const within = (value, low, high) => Math.min(high, Math.max(low, value));
let corner = null;

function at(event) {
  const area = $("query").getBoundingClientRect();
  return {
    x: within((100 * (event.clientX - area.left)) / area.width, 0, 100),
    y: within((100 * (event.clientY - area.top)) / area.height, 0, 100),
  };
}

function spanned(a, b) {
  return { x: Math.min(a.x, b.x), y: Math.min(a.y, b.y), w: Math.abs(a.x - b.x), h: Math.abs(a.y - b.y) };
}

$("frame").addEventListener("pointerdown", (event) => {
  if (event.button) return;
  corner = at(event);
  $("frame").setPointerCapture(event.pointerId);
});
$("frame").addEventListener("pointermove", (event) => {
  if (corner) setBox(spanned(corner, at(event)), false);
});
$("frame").addEventListener("pointerup", (event) => {
  if (!corner) return;
  const box = spanned(corner, at(event));
  corner = null;
  if (box.w > 2 && box.h > 2) setBox(box);
  else if (state.box) setBox(null); // a click is no box
  else $("drop").classList.toggle("large"); // on small screens
});
$("frame").addEventListener("pointercancel", () => {
  corner = null;
  setBox(null, false);
});
$("unbox").addEventListener("click", () => setBox(null));

let later = 0;
$("frame").addEventListener("keydown", (event) => {
  const box = state.box;
  const step = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, -5], ArrowDown: [0, 5] }[event.key];
  if (event.key === "Enter" && !box) setBox({ x: 25, y: 25, w: 50, h: 50 });
  else if (event.key === "Escape" && box) setBox(null);
  else if (step && box) {
    const [x, y] = step;
    setBox(event.shiftKey
      ? { ...box, w: within(box.w + x, 5, 100 - box.x), h: within(box.h + y, 5, 100 - box.y) }
      : { ...box, x: within(box.x + x, 0, 100 - box.w), y: within(box.y + y, 0, 100 - box.h) }, false);
    clearTimeout(later);
    later = setTimeout(() => setBox(state.box), 400);
  } else return;
  event.preventDefault();
});

// Photos come by a file dialogue, by dropping and by pasting.

$("file").addEventListener("change", () => {
  take($("file").files[0]);
  $("file").value = "";
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) {
    event.preventDefault();
    take(file);
  }
});
let inside = 0;
document.addEventListener("dragenter", () => $("drop").classList.toggle("over", ++inside > 0));
document.addEventListener("dragleave", () => $("drop").classList.toggle("over", --inside > 0));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  $("drop").classList.remove("over");
  take(event.dataTransfer.files[0]);
});

$("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = $("path").value.trim();
  $("path").value = "";
  change("path", typed ? [...state.path, typed] : state.path);
});
$("label")?.addEventListener("change", () => {
  const picked = $("label").value;
  $("label").value = "";
  if (picked) change("label", [...state.label, picked]);
});
$("k").addEventListener("change", () => $("filters").requestSubmit());

// The keyboard, outside of fields and of the query's box.

function takeLast() {
  const name = ["unlike", "label", "path"].find((one) => state[one].length);
  if (name) change(name, state[name].slice(0, -1));
  return Boolean(name);
}

function onResult(hit, key) {
  const hits = [...document.querySelectorAll(".hit")];
  const columns = getComputedStyle($("results")).gridTemplateColumns.split(" ").length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  const next = step && hits[hits.indexOf(hit) + step];
  const button = hit.parentElement.querySelector({ w: ".why", x: ".less", o: ".original" }[key] || "none");
  next?.focus();
  button?.click();
  return Boolean(next || button);
}

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches("select, #k, #frame")) return;
  let used = false;
  if (target === $("path")) {
    const first = key === "ArrowDown" && document.querySelector(".hit");
    if (first) first.focus();
    used = Boolean(first) || (key === "Backspace" && !target.value && takeLast());
  } else if (key === "/") {
    $("narrow").open = true;
    $("path").focus();
    used = true;
  } else if (key === "Backspace") used = takeLast();
  else if (target.matches(".hit")) used = onResult(target, key);
  if (used) event.preventDefault();
});

// On small screens the filters are folded away.
const small = matchMedia("(max-width: 760px)");
const fold = () => ($("narrow").open = !small.matches);
small.addEventListener("change", fold);
fold();

addEventListener("popstate", recall);
recall();
