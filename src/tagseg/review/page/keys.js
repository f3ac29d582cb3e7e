// Keys: what each does, how a person changes them, and the list under `?`.

export const ACTIONS = [
  ["accept", "a", "Accept"], ["reject", "x", "Reject: leaves the training"], ["later", " ", "Later"],
  ["undo", "u", "Undo (also Ctrl+Z)"], ["redo", "U", "Redo (also Ctrl+Shift+Z)"],
  ["next", "j", "Next photo (also ↓)"], ["previous", "k", "Previous photo (also ↑)"],
  ["view", "v", "Look: drag moves the photo"], ["brush", "b", "Brush"], ["eraser", "e", "Eraser: background"],
  ["region", "r", "A region becomes the chosen class"], ["grow", "g", "Grow along edges (wheel: how far)"],
  ["smaller", "[", "Smaller brush, or grows less"], ["larger", "]", "Larger brush, or grows further"],
  ["background", "0", "Paint background"], ["ignore", "i", "Paint “ignore”"],
  ["hide", "h", "Hold: see the photo alone"], ["outline", "l", "Outline only"], ["opacity", "o", "Next opacity"],
  ["cam", "c", "Class activation map"], ["zoom", "z", "Zoom to the doubtful spot"], ["nextspot", "m", "Next doubtful spot"],
  ["fit", "f", "Whole photo"], ["tags", "t", "Go to the classes"], ["help", "?", "This list"],
];
const STORE = "tagseg-review-keys";

export class Keys {
  constructor(act) {
    this.act = act;
    this.waiting = null;
    this.load();
    addEventListener("keydown", (event) => this.down(event));
    addEventListener("keyup", (event) => {
      if (this.name(event.key) === "hide") act("unhide");
    });
    addEventListener("blur", () => act("unhide"));
  }

  load() {
    let saved = {};
    try {
      saved = JSON.parse(localStorage.getItem(STORE)) ?? {};
    } catch {
      // a broken store: the keys as at first
    }
    this.on = saved.on !== false;
    this.keys = new Map(ACTIONS.map(([name, key]) => [name, typeof saved.keys?.[name] === "string" ? saved.keys[name] : key]));
  }

  save() {
    localStorage.setItem(STORE, JSON.stringify({ on: this.on, keys: Object.fromEntries(this.keys) }));
    this.show();
  }

  name(key) {
    for (const [name, own] of this.keys) if (own === key) return name;
    return null;
  }

  down(event) {
    if (this.waiting) return this.learn(event);
    const field = event.target;
    const typing = field.matches?.("select, textarea, input:not([type=checkbox], [type=range])");
    if (typing || document.querySelector("dialog[open]")) return;
    const command = event.ctrlKey || event.metaKey;
    if (command && event.key.toLowerCase() === "z") {
      event.preventDefault();
      this.act(event.shiftKey ? "redo" : "undo");
      return;
    }
    if (command || event.altKey || !this.on) return;
    const onButton = field.matches?.("button, input") && (event.key === " " || event.key === "Enter");
    if (onButton) return; // the button itself
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (field.matches?.("input")) return;
      event.preventDefault();
      this.act(event.key === "ArrowDown" ? "next" : "previous");
      return;
    }
    const name = this.name(event.key);
    if (name) {
      event.preventDefault();
      if (!event.repeat || ["next", "previous", "smaller", "larger", "undo", "redo"].includes(name)) this.act(name);
      return;
    }
    const digit = /^Digit([1-9])$/.exec(event.code)?.[1] ?? (/^[1-9]$/.test(event.key) ? event.key : null);
    if (digit) {
      event.preventDefault();
      this.act("class", Number(digit) + (event.shiftKey ? 9 : 0));
    } else if (event.key === "Enter") this.act("apply");
  }

  learn(event) {
    event.preventDefault();
    event.stopPropagation();
    if (["Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
    const { waiting } = this;
    this.waiting = null;
    if (event.key !== "Escape") {
      const other = this.name(event.key);
      if (other && other !== waiting) this.keys.set(other, this.keys.get(waiting)); // they change places
      this.keys.set(waiting, event.key);
    }
    this.save();
  }

  // Writes the keys beside the buttons and into the list.
  show() {
    const shown = (key) => (key === " " ? "space" : key);
    for (const each of document.querySelectorAll("kbd[data-key]")) each.textContent = this.on ? shown(this.keys.get(each.dataset.key)) : "";
    const list = document.getElementById("key-list");
    list.replaceChildren(
      ...ACTIONS.map(([name, , text]) => {
        const line = document.createElement("div"), button = document.createElement("button");
        line.className = "key";
        button.textContent = shown(this.keys.get(name));
        button.setAttribute("aria-label", `${text}: key ${shown(this.keys.get(name))}; change it`);
        button.addEventListener("click", () => {
          this.show();
          this.waiting = name;
          list.children[ACTIONS.findIndex(([each]) => each === name)].querySelector("button").textContent = "press a key";
          list.children[ACTIONS.findIndex(([each]) => each === name)].querySelector("button").classList.add("waiting");
        });
        line.append(text, button);
        return line;
      }),
      Object.assign(document.createElement("div"), { className: "key", textContent: "1 … 9, Shift+1 … 9: the class to paint, 1 to 18" }),
    );
    document.getElementById("keys-on").checked = this.on;
  }

  reset() {
    this.keys = new Map(ACTIONS.map(([name, key]) => [name, key]));
    this.on = true;
    this.save();
  }
}
