// A photo in, its mask over it.

const byId = (id) => document.getElementById(id);
let info, file, asked = 0;

function say(text, bad = false) {
  byId("said").textContent = text;
  byId("said").className = bad ? "bad" : "";
}

async function label() {
  if (!file) return;
  const own = file, number = ++asked; // a later photo, or other tags, may be asked about before the answer comes
  say("Labeling …");
  const form = new FormData();
  form.append("image", file, file.name);
  const tags = [...document.querySelectorAll("#tags input:checked")].map((box) => box.value);
  for (const tag of tags) form.append("tags", tag);
  form.append("masks", "png");
  form.append("upright", "true");
  try {
    const answer = await fetch("/predict", { method: "POST", body: form, headers: { Accept: "application/json" } });
    const content = await answer.json();
    if (number !== asked) return;
    if (!answer.ok) return say(content.detail, true);
    if (await show(content, own, number)) say("");
  } catch {
    if (number === asked) say("The server does not answer.", true);
  }
}

// Gives whether nothing else was asked for in the meantime.
async function show(content, own, number) {
  // Background of the palette PNG is made clear, the classes get the colors of the page.
  const image = new Image();
  image.src = `data:image/png;base64,${content.mask}`;
  await image.decode();
  if (number !== asked) return false;
  const canvas = document.createElement("canvas");
  canvas.width = content.width;
  canvas.height = content.height;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const picture = context.getImageData(0, 0, canvas.width, canvas.height);
  const shown = new Map(content.found.map(({ class: k, color }) => [voc(k), [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16))]));
  for (let at = 0; at < picture.data.length; at += 4) {
    const code = (picture.data[at] << 16) | (picture.data[at + 1] << 8) | picture.data[at + 2];
    const color = shown.get(code);
    if (color) picture.data.set(color, at);
    else picture.data[at + 3] = 0;
  }
  context.putImageData(picture, 0, 0);
  byId("mask").src = canvas.toDataURL();
  byId("photo").src = content.photo ? `data:image/jpeg;base64,${content.photo}` : URL.createObjectURL(own);
  byId("found").replaceChildren(...content.found.map(({ label, color, share, confidence }) => {
    const line = document.createElement("span"), dot = document.createElement("i");
    dot.style.background = color;
    line.append(dot, `${label} ${(100 * share).toFixed(1)} %, ${Math.round(100 * confidence)} % sure`);
    return line;
  }));
  if (!content.found.length) byId("found").textContent = "All background.";
  byId("save").href = `data:image/png;base64,${content.mask}`;
  for (const id of ["result", "again", "save"]) byId(id).hidden = false;
  return true;
}

// The color of a class in the palette of PASCAL VOC.
function voc(k) {
  let code = 0;
  for (let place = 0; place < 8; place++)
    for (let channel = 0; channel < 3; channel++) code |= ((k >> (3 * place + channel)) & 1) << (7 - place + 8 * (2 - channel));
  return code;
}

function take(files) {
  if (!files.length) return;
  file = files[0];
  label();
}

byId("file").addEventListener("change", (event) => take(event.target.files));
byId("again").addEventListener("click", label);
byId("opacity").addEventListener("input", (event) => (byId("mask").style.opacity = event.target.value / 100));
for (const kind of ["dragover", "dragleave", "drop"])
  addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files);
  });

info = await (await fetch("/info")).json();
byId("name").textContent = info.name;
byId("about").textContent = `${info.classes.length - 1} classes: ${info.classes.slice(1).map(({ name }) => name).join(", ")}`;
for (const { name } of info.classes.slice(1)) {
  const line = document.createElement("label"), box = document.createElement("input");
  box.type = "checkbox";
  box.value = name;
  line.append(box, name);
  byId("tags").append(line);
}
document.body.dataset.ready = "yes";
