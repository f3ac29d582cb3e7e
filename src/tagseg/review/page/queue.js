// The queue: rows of all photos, filtered and in order; only those in sight are in the page.

const HEIGHT = 76;

export function stateOf(row) {
  if (row.state === "accepted") return row.painted || row.retagged ? "corrected" : "accepted";
  return row.state;
}

export class Queue {
  constructor(classes, open) {
    Object.assign(this, { classes, open });
    this.rows = new Map();
    this.shown = [];
    this.place = new Map();
    this.gain = new Map();
    this.current = null;
    this.list = document.getElementById("list");
    this.space = document.getElementById("rows");
    this.drawn = new Map();
    this.list.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.list);
    const filter = document.getElementById("class-filter");
    classes.forEach(({ name }, k) => k && filter.append(new Option(name, k)));
    for (const id of ["order", "state", "class-filter", "class-how"]) {
      const field = document.getElementById(id);
      let pointed = false; // by keys a person goes through the choices, and stays there
      field.addEventListener("pointerdown", () => (pointed = true));
      field.addEventListener("keydown", () => (pointed = false));
      field.addEventListener("change", () => {
        this.refilter();
        if (pointed) field.blur(); // the letters are the page's keys again
      });
    }
  }

  get order() {
    return document.getElementById("order").value;
  }

  update(rows, { keep = false } = {}) {
    for (const row of rows) this.rows.set(row.i, row);
    if (!keep) this.arrange();
    else this.draw(true);
    this.count();
  }

  async refilter() {
    this.gain = new Map();
    if (this.order === "gain") {
      const proposed = await fetch("/api/order?count=200").then((answer) => (answer.ok ? answer.json() : []));
      proposed.forEach(({ i, random }, place) => this.gain.set(i, { place, random }));
    }
    this.arrange();
    this.list.scrollTop = 0;
    if (this.shown.length && !this.place.has(this.current)) this.open(this.shown[0]);
    this.draw(true);
  }

  fits(row) {
    const state = document.getElementById("state").value, how = document.getElementById("class-how").value;
    const k = Number(document.getElementById("class-filter").value);
    if (state && stateOf(row) !== state) return false;
    if (!k) return true;
    const tagged = row.tags?.includes(k) ?? false, found = row.found.includes(k);
    return { tagged, found, missing: tagged && !found, extra: found && !tagged && row.tags !== null }[how];
  }

  arrange() {
    const rows = [...this.rows.values()].filter((row) => this.fits(row));
    const doubt = (row) => row.doubt ?? -1;
    if (this.order === "name") rows.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
    else if (this.order === "gain") {
      const place = (row) => this.gain.get(row.i)?.place ?? 1e9;
      rows.sort((a, b) => place(a) - place(b) || doubt(b) - doubt(a));
    } else rows.sort((a, b) => doubt(b) - doubt(a) || a.i - b.i);
    this.shown = rows.map((row) => row.i);
    this.place = new Map(this.shown.map((i, place) => [i, place]));
    const all = this.rows.size;
    document.getElementById("listed").textContent =
      this.shown.length === all ? `${all} photos` : `${this.shown.length} of ${all} photos`;
    this.space.style.height = `${HEIGHT * this.shown.length}px`;
    this.draw(true);
  }

  count() {
    let done = 0;
    for (const row of this.rows.values()) done += row.state === "accepted" || row.state === "rejected";
    const all = this.rows.size;
    document.getElementById("count").textContent = `${done} done, ${all - done} left`;
    document.getElementById("progress").style.width = `${(100 * done) / Math.max(all, 1)}%`;
    const bar = document.querySelector(".progress");
    bar.setAttribute("aria-valuemax", all);
    bar.setAttribute("aria-valuenow", done);
  }

  // The next photo without a decision behind one, going round, and those put off after all others; null where none is left.
  after(i, { any = false, back = false } = {}) {
    const start = this.place.get(i) ?? -1, count = this.shown.length;
    let later = null;
    for (let n = 1; n <= count; n++) {
      const place = back ? start - n : start + n;
      if (any && (place < 0 || place >= count)) return null;
      const next = this.shown[((place % count) + count) % count];
      if (next === i) continue;
      const { state } = this.rows.get(next);
      if (any || state === "open") return next;
      if (state === "later") later ??= next;
    }
    return later;
  }

  // What to say where no photo comes after one.
  rest(i) {
    if (this.rows.get(i)?.state === "later" && this.place.has(i)) return "Only this photo of the list is left.";
    return "Every photo in this list is decided. Choose another filter, or end the server and train again.";
  }

  upcoming(i, count) {
    const found = [];
    for (let next = this.after(i); next !== null && found.length < count && !found.includes(next); next = this.after(next)) found.push(next);
    return found;
  }

  select(i) {
    this.current = i;
    const place = this.place.get(i);
    if (place !== undefined) {
      const top = place * HEIGHT, { scrollTop, clientHeight } = this.list;
      if (top < scrollTop || top + HEIGHT > scrollTop + clientHeight) this.list.scrollTop = top - HEIGHT;
    }
    this.draw(true);
  }

  draw(anew = false) {
    const first = Math.max(Math.floor(this.list.scrollTop / HEIGHT) - 2, 0);
    const last = Math.min(first + Math.ceil(this.list.clientHeight / HEIGHT) + 5, this.shown.length);
    const wanted = new Set(this.shown.slice(first, last));
    for (const [i, element] of this.drawn)
      if (!wanted.has(i)) {
        element.remove();
        this.drawn.delete(i);
      }
    for (const i of wanted) {
      let element = this.drawn.get(i);
      if (element && !anew) continue;
      if (!element) {
        element = this.make(i);
        this.drawn.set(i, element);
        this.space.append(element);
      }
      this.write(element, this.rows.get(i));
      element.style.top = `${HEIGHT * this.place.get(i)}px`;
    }
  }

  make(i) {
    const button = document.createElement("button"), image = new Image(), text = document.createElement("div");
    button.className = "row";
    image.loading = "lazy";
    image.alt = "";
    image.src = `/api/photos/${i}/thumb`;
    text.append(document.createElement("b"), document.createElement("i"), " ", document.createElement("span"));
    button.append(image, text);
    button.addEventListener("click", () => {
      this.open(i);
      button.blur();
    });
    return button;
  }

  write(element, row) {
    const state = stateOf(row);
    element.setAttribute("aria-current", String(row.i === this.current));
    element.querySelector("b").textContent = row.name;
    const mark = element.querySelector("i");
    const draft = row.state === "open" && (row.painted || row.retagged);
    mark.className = draft ? "draft" : state;
    mark.textContent = draft ? "✎ not decided" : { open: "", accepted: "✓ accepted", corrected: "✓ corrected", rejected: "✕ rejected", later: "… later" }[state];
    const drawn = this.gain.get(row.i)?.random ? "drawn at random, to measure the whole set · " : "";
    element.querySelector("span").textContent = drawn + row.reason;
  }
}
