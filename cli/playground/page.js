// Draws on the pad, sends its pixels to the program that served the page, and shows what comes back. Asks nobody else.
const $ = (id) => document.getElementById(id);
const pad = $("pad"), ink = pad.getContext("2d", { willReadFrequently: true });
const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const TOP = 10; // classes shown
let facts, busy = false, waiting = false;

const clear = () => { ink.fillStyle = "#000"; ink.fillRect(0, 0, pad.width, pad.height); };
const number = (value) => value.toLocaleString("en", { maximumFractionDigits: 2 });

async function ask(path, body) {
  const request = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, request), found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

/** The pad's pixels as the model takes them: its size, [0, 1], one channel or three. */
function pixels() {
  const [height, width, channels] = facts.shape, small = new OffscreenCanvas(width, height).getContext("2d");
  small.imageSmoothingQuality = "high";
  small.drawImage(pad, 0, 0, width, height);
  const { data } = small.getImageData(0, 0, width, height), picture = [];
  for (let i = 0; i < data.length; i += 4) {
    const [r, g, b] = [data[i], data[i + 1], data[i + 2]].map((value) => value / 255);
    const values = channels === 1 ? [0.299 * r + 0.587 * g + 0.114 * b] : [r, g, b];
    picture.push(...values.map((value) => Math.min(1, $("invert").checked ? 1 - value : value)));
  }
  return picture;
}

function paint(canvas, width, height, colour) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) image.data.set([...colour(i), 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function ramp(share) {
  const at = Math.max(0, Math.min(1, share)) * (RAMP.length - 1), low = Math.min(Math.floor(at), RAMP.length - 2);
  return RAMP[low].map((value, i) => value + (at - low) * (RAMP[low + 1][i] - value));
}

function showPicture(canvas, picture) {
  const [height, width, channels] = facts.shape;
  paint(canvas, width, height, (i) => [0, 1, 2].map((c) => 255 * picture[i * channels + (channels === 1 ? 0 : c)]));
}

function showBoundary(tensors) {
  const maps = tensors.flatMap((tensor) => tensor.maps), values = maps.flat(2);
  const least = values.reduce((a, b) => Math.min(a, b)), largest = values.reduce((a, b) => Math.max(a, b)), span = largest - least || 1;
  $("maps").style.gridTemplateColumns = `repeat(${Math.ceil(Math.sqrt(maps.length))}, 1fr)`;
  $("maps").replaceChildren(...maps.map((map) => {
    const canvas = document.createElement("canvas");
    paint(canvas, map[0].length, map.length, (i) => ramp((map[Math.floor(i / map[0].length)][i % map[0].length] - least) / span));
    return canvas;
  }));
  [$("least").textContent, $("largest").textContent] = [number(least), number(largest)];
}

function showAnswers(answers) {
  $("answers").replaceChildren(...answers.flatMap(({ name, shares, softmax }) => {
    const order = shares.map((share, i) => [share, i]).sort((a, b) => b[0] - a[0]), shown = order.slice(0, TOP), best = order[0][1];
    if (shares.length <= TOP) shown.sort((a, b) => a[1] - b[1]);
    const title = document.createElement("h3"), bars = document.createElement("div");
    title.textContent = `${name}${softmax ? ", as shares (softmax)" : ""}: class ${best}`;
    bars.className = "bars";
    for (const [share, i] of shown) {
      const label = document.createElement("span"), meter = document.createElement("meter"), value = document.createElement("span");
      [label.textContent, meter.value, value.textContent] = [i, share, `${Math.round(100 * share)} %`];
      if (i === best) label.className = value.className = "top";
      bars.append(label, meter, value);
    }
    return [title, bars];
  }));
}

async function update() {
  if (busy) { waiting = true; return; }
  busy = true;
  try {
    const shown = await ask("show", { picture: pixels() });
    showBoundary(shown.boundary);
    for (const side of ["defended", "undefended"]) {
      if (shown.attacker) showPicture($(side), shown.attacker[side]);
      $(side).classList.toggle("empty", !shown.attacker);
    }
    showAnswers(shown.answers);
    $("timing").textContent = `The device half took ${number(shown.device_ms)} ms, the server with the way there and back ${number(shown.server_ms)} ms.`;
    $("problem").textContent = "";
  } catch (error) {
    $("problem").textContent = error.message;
  } finally {
    busy = false;
    document.body.dataset.shown = Number(document.body.dataset.shown ?? 0) + 1;
    if (waiting) { waiting = false; update(); }
  }
}

function showFacts() {
  const [height, width, channels] = facts.shape, share = facts.boundary_bytes / facts.picture_bytes;
  $("model").textContent = `${facts.name}, version ${facts.version}, pair ${facts.pair}. ${facts.server}.`;
  $("size").textContent = `${height} × ${width} pixels${channels === 3 ? " in colour" : ""}`;
  $("bytes").textContent = `${number(facts.boundary_bytes)} bytes`;
  const times = share >= 1 ? `${number(share)} times the picture's ${number(facts.picture_bytes)}` : `${Math.round(100 * share)} % of the picture's ${number(facts.picture_bytes)}`;
  const how = [facts.encoding === "none" ? "" : `as ${facts.encoding}`, facts.channel.length ? `through ${facts.channel.join(", ")}` : ""].filter(Boolean).join(", ");
  $("boundary").textContent = `${times} bytes${how ? `, ${how}` : ""}. ${facts.boundary}.`;
  $("attacker").textContent = facts.attacker
    ? `${facts.attacker.name}: ${facts.attacker.why}. On ${facts.attacker.victims} test pictures its SSIM is ${number(facts.attacker.ssim.undefended)} `
      + `without and ${number(facts.attacker.ssim.defended)} with defence, after one look (1 is the picture itself).`
    : facts.missing;
  $("verdict").replaceChildren(...facts.verdict.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
}

async function showFile(file) {
  if (!file) return;
  try {
    const picture = await createImageBitmap(file), side = Math.min(picture.width, picture.height);
    ink.drawImage(picture, (picture.width - side) / 2, (picture.height - side) / 2, side, side, 0, 0, pad.width, pad.height);
    update();
  } catch {
    $("problem").textContent = `${file.name} is no picture that this browser can read.`;
  }
}

let from;
const place = (event) => [event.offsetX * pad.width / pad.clientWidth, event.offsetY * pad.height / pad.clientHeight];
pad.addEventListener("pointerdown", (event) => { from = place(event); pad.setPointerCapture(event.pointerId); });
pad.addEventListener("pointermove", (event) => {
  if (!from) return;
  const to = place(event);
  Object.assign(ink, { strokeStyle: "#fff", lineWidth: pad.width / 12, lineCap: "round", lineJoin: "round" });
  ink.beginPath();
  ink.moveTo(...from);
  ink.lineTo(...to);
  ink.stroke();
  from = to;
  update();
});
for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => { from = undefined; });
for (const over of ["dragover", "dragleave", "drop"]) {
  pad.addEventListener(over, (event) => { event.preventDefault(); pad.classList.toggle("over", over === "dragover"); });
}
pad.addEventListener("drop", (event) => showFile(event.dataTransfer.files[0]));
$("file").addEventListener("change", (event) => showFile(event.target.files[0]));
$("invert").addEventListener("change", update);
$("clear").addEventListener("click", () => { clear(); update(); });

clear();
facts = await ask("facts");
showFacts();
await update();
