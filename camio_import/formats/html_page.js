"use strict";
// The page's program. Everything shown goes through textContent: labels and names are other people's words.
(() => {
  const MANY_BOOKMARKS = 50000;
  const LONGEST_GUESS_MS = 600000; // a clip of unknown length reaches to the next one, at most ten minutes
  const ROW_PX = 56; // as in the style sheet
  const TALLEST_LIST_PX = 8000000; // browsers draw nothing beyond some 17 million
  const COLOURED_LABELS = 8;
  const CHIPS_SHOWN = 24;
  const CHIPS_AT_MOST = 400;
  const NARROWEST_VIEW_MS = 2000;
  const MARK_PX = 3;
  const AXIS_PX = 36;

  const byId = (id) => document.getElementById(id);
  const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // ---- what the file holds

  function readParts() {
    const parts = { job: {}, cameras: [], clips: [], bookmarks: [], spans: [] };
    for (const script of document.querySelectorAll("script.part")) {
      const part = JSON.parse(script.textContent);
      script.remove();
      for (const kind of ["cameras", "clips", "bookmarks", "spans"]) {
        for (const row of part[kind] || []) parts[kind].push(row);
      }
      Object.assign(parts.job, part.job);
    }
    return parts;
  }

  function clipOf([camera, start, length, path, uri]) {
    return { camera, start, end: length === null ? null : start + length, path, uri };
  }

  /** Clips of each camera in order of time, those of unknown length with a guessed end. */
  function clipsByCamera(rows, cameraCount) {
    const clips = Array.from({ length: cameraCount }, () => []);
    for (const row of rows) clips[row[0]].push(clipOf(row));
    for (const list of clips) {
      list.sort((one, other) => one.start - other.start);
      list.forEach((clip, number) => {
        if (clip.end === null) {
          const next = list[number + 1];
          clip.end = Math.min(next ? next.start : Infinity, clip.start + LONGEST_GUESS_MS);
        }
      });
      list.longest = list.reduce((longest, clip) => Math.max(longest, clip.end - clip.start), 0);
    }
    return clips;
  }

  const { job, cameras: cameraNames, clips: clipRows, bookmarks: bookmarkRows, spans } = readParts();
  const cameras = cameraNames.map((name) => ({ name: name.trim() ? name : "(no name)", bookmarks: 0 }));
  const clips = clipRows.map(clipOf);
  const clipsOf = clipsByCamera(spans, cameras.length);
  const labels = []; // {name, bookmarks, colour}
  const bookmarks = internedBookmarks();
  rankLabels();
  const longestBookmark = bookmarks.reduce((longest, one) => Math.max(longest, one.end - one.start), 0);
  const whole = wholeTime();

  function internedBookmarks() {
    const numberOf = new Map();
    return bookmarkRows.map(([camera, start, length, clip, offset, endOffset, names]) => {
      const own = (names.length ? names : ["(no label)"]).map((name) => {
        const known = numberOf.get(name);
        if (known !== undefined) return known;
        numberOf.set(name, labels.length);
        labels.push({ name: name.trim() ? name : "(empty label)", bookmarks: 0, colour: -1 });
        return labels.length - 1;
      });
      for (const label of own) labels[label].bookmarks += 1;
      cameras[camera].bookmarks += 1;
      return { camera, start, end: start + length, clip: clips[clip], offset, endOffset, labels: own };
    });
  }

  /** Colours for the most frequent labels. The service's internal ones (_ml_, _color_) repeat others: they get none. */
  function rankLabels() {
    const ranked = labels.filter((label) => !label.name.startsWith("_")).sort((a, b) => b.bookmarks - a.bookmarks);
    ranked.slice(0, COLOURED_LABELS).forEach((label, colour) => { label.colour = colour; });
  }

  function wholeTime() {
    let from = Infinity;
    let to = -Infinity;
    for (const one of bookmarks) { from = Math.min(from, one.start); to = Math.max(to, one.end); }
    for (const list of clipsOf) {
      for (const one of list) { from = Math.min(from, one.start); to = Math.max(to, one.end); }
    }
    if (from > to) { from = job.earliest; to = job.latest; }
    const margin = Math.max((to - from) * 0.015, 1000);
    return { from: from - margin, to: to + margin };
  }

  // ---- times

  let isLocal = false;
  const two = (number) => String(number).padStart(2, "0");
  const zoneOffset = (ms) => (isLocal ? -new Date(ms).getTimezoneOffset() * 60000 : 0);
  const inZone = (ms) => new Date(ms + zoneOffset(ms)); // its UTC fields are the zone's

  function dateText(ms) {
    const at = inZone(ms);
    return `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())}`;
  }
  function clockText(ms, withSeconds = true) {
    const at = inZone(ms);
    return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}${withSeconds ? `:${two(at.getUTCSeconds())}` : ""}`;
  }
  const momentText = (ms) => `${dateText(ms)} ${clockText(ms)}`;
  const zoneText = (ms) => {
    if (!isLocal) return "UTC";
    const minutes = zoneOffset(ms) / 60000;
    const size = Math.abs(minutes);
    return `UTC${minutes < 0 ? "−" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
  };
  /** 7.5 s, 12 min, 3 h 05 min; nothing for an instant. */
  function lengthText(ms) {
    if (!ms) return "";
    const seconds = ms / 1000;
    if (seconds < 60) return `${seconds < 10 ? Math.round(seconds * 10) / 10 : Math.round(seconds)} s`;
    const minutes = Math.round(seconds / 60);
    if (minutes < 60) return `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    return hours < 48 ? `${hours} h ${two(minutes % 60)} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
  }
  /** A place in a file: 0:07.5, 12:30, 1:02:03. */
  function placeText(ms) {
    const tenths = Math.floor(ms / 100);
    const seconds = Math.floor(tenths / 10);
    const hours = Math.floor(seconds / 3600);
    const minutes = Math.floor(seconds / 60) % 60;
    const start = hours ? `${hours}:${two(minutes)}` : `${minutes}`;
    return `${start}:${two(seconds % 60)}${tenths % 10 ? `.${tenths % 10}` : ""}`;
  }

  // ---- the filter

  const filter = { text: "", labels: new Set(), cameras: new Set() };
  let shown = []; // numbers of the bookmarks that match, in order
  let shownOf = []; // the same for each camera
  let tracks = []; // numbers of the cameras on the timeline

  function applyFilter() {
    const text = filter.text.toLowerCase();
    const hasText = labels.map((label) => label.name.toLowerCase().includes(text));
    const matches = (one) =>
      (!filter.cameras.size || filter.cameras.has(one.camera)) &&
      (!filter.labels.size || one.labels.some((label) => filter.labels.has(label))) &&
      (!text || one.labels.some((label) => hasText[label]));
    shown = [];
    shownOf = cameras.map(() => []);
    bookmarks.forEach((one, number) => {
      if (!matches(one)) return;
      shown.push(number);
      shownOf[one.camera].push(number);
    });
    tracks = cameras.map((_, number) => number).filter((number) => !filter.cameras.size || filter.cameras.has(number));
  }

  function onFilter() {
    applyFilter();
    const isFiltered = Boolean(filter.text || filter.labels.size || filter.cameras.size);
    byId("clear").disabled = !isFiltered;
    byId("matches").textContent = isFiltered
      ? `${shown.length.toLocaleString("en")} of ${count(bookmarks.length, "bookmark")}`
      : count(bookmarks.length, "bookmark");
    byId("empty").hidden = shown.length > 0;
    byId("empty").textContent = bookmarks.length ? "No bookmark matches the filter." : "This job has no bookmarks.";
    list.hidden = shown.length === 0;
    drawChips();
    layOutList();
    if (placeInList(chosen) < 0) list.scrollTop = 0;
    else showInList(chosen);
    layOutTimeline();
    markChosen();
  }

  let showAllLabels = false;

  function drawChips() {
    const text = filter.text.toLowerCase();
    const rank = (label) => [label.name.startsWith("_") ? 1 : 0, -label.bookmarks];
    const fitting = labels
      .map((label, number) => ({ label, number }))
      .filter(({ label, number }) => filter.labels.has(number) || label.name.toLowerCase().includes(text))
      .sort((a, b) => {
        const [one, other] = [rank(a.label), rank(b.label)];
        return one[0] - other[0] || one[1] - other[1];
      });
    const most = showAllLabels ? CHIPS_AT_MOST : CHIPS_SHOWN;
    // A chosen label stays in sight, however rare it is.
    const visible = fitting.filter(({ number }, place) => place < most || filter.labels.has(number));
    const made = visible.map(({ label, number }) => chip(label, filter.labels.has(number), () => toggle(filter.labels, number)));
    if (fitting.length > CHIPS_SHOWN) made.push(moreChip(fitting.length));
    if (!made.length) made.push(element("span", "muted", labels.length ? "No label with this text." : "None."));
    replaceChips(byId("labels"), made);
    const ofCameras = cameras.map((camera, number) =>
      chip(camera, filter.cameras.has(number), () => toggle(filter.cameras, number)));
    replaceChips(byId("cameras"), ofCameras);
    byId("cameras-line").hidden = cameras.length < 2;
  }

  function moreChip(total) {
    const more = element("button", "quiet", showAllLabels ? "Fewer" : `All ${total.toLocaleString("en")}…`);
    if (showAllLabels && total > CHIPS_AT_MOST) more.textContent = `Fewer (type above to find the other ${total - CHIPS_AT_MOST})`;
    more.type = "button";
    more.addEventListener("click", () => { showAllLabels = !showAllLabels; drawChips(); });
    return more;
  }

  function chip(what, isChosen, onClick) {
    const made = element("button", "chip");
    made.type = "button";
    made.setAttribute("aria-pressed", String(isChosen));
    made.title = what.name;
    if (what.colour !== undefined) made.append(dot(what));
    made.append(element("span", "name", what.name), element("span", "number", what.bookmarks.toLocaleString("en")));
    made.addEventListener("click", onClick);
    return made;
  }

  const dot = (label) => element("span", label.colour < 0 ? "dot" : `dot colour-${label.colour}`);

  function toggle(set, number) {
    if (!set.delete(number)) set.add(number);
    onFilter();
  }

  /** New chips in a toolbar; the one at the focused place keeps the focus. One stop for Tab, arrows within. */
  function replaceChips(bar, made) {
    const place = Array.prototype.indexOf.call(bar.children, document.activeElement);
    const scrolled = bar.scrollLeft;
    bar.replaceChildren(...made);
    bar.scrollLeft = scrolled;
    const buttons = bar.querySelectorAll("button");
    buttons.forEach((button) => { button.tabIndex = -1; });
    const first = buttons[Math.min(Math.max(place, 0), buttons.length - 1)];
    if (first) first.tabIndex = 0;
    if (place >= 0 && first) first.focus();
  }

  function moveInToolbar(event) {
    const buttons = [...event.currentTarget.querySelectorAll("button")];
    const place = buttons.indexOf(document.activeElement);
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -place, End: buttons.length - 1 - place };
    if (place < 0 || !(event.key in steps)) return;
    event.preventDefault();
    const next = buttons[(place + steps[event.key] + buttons.length) % buttons.length];
    buttons[place].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  // ---- the list: only the rows in sight are elements

  const list = byId("list");
  const listHeight = byId("list-height");
  let chosen = -1; // number of the chosen bookmark

  /** How far the list scrolls, and how far its rows would reach: the same but for very long lists. */
  function listReach() {
    const rows = shown.length * ROW_PX;
    const height = Math.min(rows, TALLEST_LIST_PX);
    const scrollable = Math.max(height - list.clientHeight, 1);
    return { height, ratio: rows > height ? (rows - list.clientHeight) / scrollable : 1 };
  }

  function layOutList() {
    listHeight.style.height = `${listReach().height}px`;
    drawList();
  }

  function drawList() {
    if (list.hidden) { listHeight.replaceChildren(); return; }
    const top = list.scrollTop;
    const rowsTop = top * listReach().ratio;
    const first = Math.max(0, Math.floor(rowsTop / ROW_PX) - 4);
    const last = Math.min(shown.length, Math.ceil((rowsTop + list.clientHeight) / ROW_PX) + 4);
    const rows = [];
    for (let place = first; place < last; place += 1) rows.push(listRow(place, top + place * ROW_PX - rowsTop));
    listHeight.replaceChildren(...rows);
    const isDrawn = byId(`bookmark-${chosen}`) !== null;
    if (isDrawn) list.setAttribute("aria-activedescendant", `bookmark-${chosen}`);
    else list.removeAttribute("aria-activedescendant");
  }

  function listRow(place, topPx) {
    const number = shown[place];
    const one = bookmarks[number];
    const row = element("div", "row");
    row.id = `bookmark-${number}`;
    row.dataset.number = String(number);
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", String(number === chosen));
    row.setAttribute("aria-setsize", String(shown.length));
    row.setAttribute("aria-posinset", String(place + 1));
    row.style.top = `${topPx}px`;
    const what = element("div", "what");
    what.append(...one.labels.slice(0, 12).map((label) => tag(labels[label])));
    const upper = element("div", "line");
    upper.append(element("span", "when", momentText(one.start)), element("span", "camera", cameras[one.camera].name));
    const lower = element("div", "line");
    lower.append(what, element("span", "long", one.clip ? lengthText(one.end - one.start) || "instant" : "no clip"));
    row.append(upper, lower);
    return row;
  }

  function tag(label) {
    const made = element("span", "tag");
    made.append(dot(label), element("span", "", label.name));
    return made;
  }

  /** Where a bookmark stands among those shown, or -1. */
  function placeInList(number) {
    let low = 0;
    let high = shown.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (shown[middle] < number) low = middle + 1; else high = middle;
    }
    return shown[low] === number ? low : -1;
  }

  function showInList(number) {
    const place = placeInList(number);
    if (place < 0) return;
    const { ratio } = listReach();
    const top = place * ROW_PX;
    const seen = list.scrollTop * ratio;
    if (top < seen) list.scrollTop = top / ratio;
    else if (top + ROW_PX > seen + list.clientHeight) list.scrollTop = (top + ROW_PX - list.clientHeight) / ratio;
    drawList();
  }

  /** Choose the bookmark `steps` further on; from nowhere, the first or the last. */
  function step(steps) {
    if (!shown.length) return;
    let place = placeInList(chosen);
    if (place < 0) place = steps > 0 ? -1 : shown.length;
    choose(shown[Math.min(Math.max(place + steps, 0), shown.length - 1)]);
  }

  function onListKey(event) {
    const page = Math.max(1, Math.floor(list.clientHeight / ROW_PX) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -shown.length, End: shown.length };
    if (event.key in steps) step(steps[event.key]);
    else if (event.key === "Enter" || event.key === " ") playMoment();
    else return;
    event.preventDefault();
  }

  // ---- the timeline

  const canvas = byId("timeline");
  const pen = canvas.getContext("2d");
  const tracksBox = byId("tracks");
  let view = { ...whole };
  let colours = {};
  let size = { width: 0, height: 0, gutter: 0, row: 0, bar: 0 };
  let drawAsked = false;

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(`--${name}`).trim();
    colours = Object.fromEntries(["panel", "text", "muted", "line", "accent", "track", "clip", "clip-edge"].map((name) => [name, of(name)]));
    colours.labels = Array.from({ length: COLOURED_LABELS }, (_, number) => of(`label-${number}`));
    colours.other = of("label-other");
  }

  function layOutTimeline() {
    const isNarrow = tracksBox.clientWidth < 560;
    size.row = isNarrow ? 54 : 40;
    size.bar = 24;
    const rows = AXIS_PX + tracks.length * size.row + 6;
    tracksBox.style.height = `${rows}px`;
    size.width = tracksBox.clientWidth;
    size.height = tracksBox.clientHeight;
    size.gutter = isNarrow ? 0 : Math.min(170, Math.round(size.width * 0.18));
    byId("tracks-height").style.height = `${Math.max(0, rows - size.height)}px`;
    const dense = window.devicePixelRatio || 1;
    canvas.width = Math.round(size.width * dense);
    canvas.height = Math.round(size.height * dense);
    canvas.style.height = `${size.height}px`;
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    askToDraw();
  }

  function askToDraw() {
    if (drawAsked) return;
    drawAsked = true;
    requestAnimationFrame(() => { drawAsked = false; drawTimeline(); });
  }

  const xOf = (ms) => size.gutter + ((ms - view.from) / (view.to - view.from)) * (size.width - size.gutter);
  const timeAt = (x) => view.from + ((x - size.gutter) / (size.width - size.gutter)) * (view.to - view.from);
  const trackTop = (place) => AXIS_PX + place * size.row - tracksBox.scrollTop;
  const barTop = (place) => trackTop(place) + size.row - size.bar - 6;

  function drawTimeline() {
    pen.fillStyle = colours.panel;
    pen.fillRect(0, 0, size.width, size.height);
    const ticks = axisTicks();
    tracks.forEach((camera, place) => {
      if (trackTop(place) < size.height && trackTop(place) + size.row > AXIS_PX) drawTrack(camera, place, ticks);
    });
    drawMoment();
    drawAxis(ticks);
    tellView();
  }

  function tellView() {
    const withSeconds = view.to - view.from < 3600000;
    const [from, to] = [view.from, view.to].map((ms) => [dateText(ms), clockText(ms, withSeconds)]);
    const end = from[0] === to[0] ? to[1] : to.join(" ");
    byId("span").textContent = `${from.join(" ")} to ${end} ${zoneText(view.from)}`;
  }

  function drawTrack(camera, place, ticks) {
    const top = barTop(place);
    pen.fillStyle = colours.track;
    pen.fillRect(size.gutter, top, size.width - size.gutter, size.bar);
    pen.save();
    pen.beginPath();
    pen.rect(size.gutter, top - 4, size.width - size.gutter, size.bar + 8);
    pen.clip();
    drawClips(clipsOf[camera], top);
    pen.fillStyle = colours.line;
    for (const tick of ticks) pen.fillRect(Math.round(xOf(tick.ms)), top, 1, size.bar);
    drawMarks(shownOf[camera], top);
    pen.restore();
    drawName(cameras[camera].name, place);
  }

  function drawName(name, place) {
    pen.fillStyle = colours.text;
    pen.font = "13px system-ui, sans-serif";
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    const room = size.gutter ? size.gutter - 12 : size.width;
    const middle = size.gutter ? barTop(place) + size.bar / 2 : trackTop(place) + 12;
    pen.fillText(fitted(name, room), size.gutter ? 2 : 0, middle);
  }

  function fitted(text, room) {
    let cut = text.slice(0, 80);
    if (cut === text && pen.measureText(text).width <= room) return text;
    while (cut && pen.measureText(`${cut}…`).width > room) cut = cut.slice(0, -1);
    return `${cut}…`;
  }

  /** The first place in an ordered list whose item starts at `ms` or later. */
  function firstFrom(length, startOf, ms) {
    let low = 0;
    let high = length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (startOf(middle) < ms) low = middle + 1; else high = middle;
    }
    return low;
  }

  function drawClips(ofCamera, top) {
    let drawnTo = -Infinity;
    const first = firstFrom(ofCamera.length, (place) => ofCamera[place].start, view.from - ofCamera.longest);
    for (let place = first; place < ofCamera.length && ofCamera[place].start < view.to; place += 1) {
      const left = Math.max(xOf(ofCamera[place].start), -5);
      const right = Math.min(Math.max(xOf(ofCamera[place].end), left + 1), size.width + 5);
      if (right <= drawnTo) continue; // thousands of clips fall on one pixel
      pen.fillStyle = colours.clip;
      pen.fillRect(left, top, right - left, size.bar);
      if (right - left > 5) {
        pen.fillStyle = colours["clip-edge"];
        pen.fillRect(left, top, 1, size.bar);
      }
      drawnTo = Math.ceil(right);
    }
  }

  function colourOf(one) {
    let best = null;
    for (const number of one.labels) {
      if (filter.labels.size && !filter.labels.has(number)) continue;
      const label = labels[number];
      if (label.colour >= 0 && (best === null || label.colour < best)) best = label.colour;
    }
    return best === null ? colours.other : colours.labels[best];
  }

  function drawMarks(numbers, top) {
    const marks = []; // bookmarks that fall on the same few pixels are one mark, the stronger the more they are
    let last = { left: -Infinity, right: -Infinity };
    const startOf = (place) => bookmarks[numbers[place]].start;
    for (let place = firstFrom(numbers.length, startOf, view.from - longestBookmark); place < numbers.length; place += 1) {
      const one = bookmarks[numbers[place]];
      if (one.start > view.to) break;
      const left = xOf(one.start);
      const right = Math.max(xOf(one.end), left + MARK_PX);
      if (left < last.left + MARK_PX && right <= last.right) { last.number += 1; continue; }
      last = { left, right, number: 1, colour: colourOf(one) };
      marks.push(last);
    }
    const most = marks.reduce((number, mark) => Math.max(number, mark.number), 1);
    for (const mark of marks) {
      pen.globalAlpha = most > 4 ? 0.35 + 0.65 * (Math.log(mark.number + 1) / Math.log(most + 1)) : 1;
      pen.fillStyle = mark.colour;
      pen.fillRect(mark.left, top + 3, mark.right - mark.left, size.bar - 6);
    }
    pen.globalAlpha = 1;
  }

  /** The chosen stretch, and where the video is playing. */
  function drawMoment() {
    const place = moment ? tracks.indexOf(moment.camera) : -1;
    if (place < 0) return;
    const top = barTop(place);
    const left = Math.max(xOf(moment.start), size.gutter);
    const right = Math.max(xOf(moment.end), left + MARK_PX);
    if (right > size.gutter && left < size.width && xOf(moment.end) >= size.gutter - MARK_PX) {
      pen.strokeStyle = colours.text;
      pen.lineWidth = 2;
      pen.strokeRect(left - 2, top - 1, right - left + 4, size.bar + 2);
      pen.fillStyle = colours.text;
      pen.beginPath();
      pen.moveTo(left - 4, top - 8);
      pen.lineTo(left + 7, top - 8);
      pen.lineTo(left + 1.5, top - 2);
      pen.fill();
    }
    const head = playHead();
    if (head === null || xOf(head) < size.gutter || xOf(head) > size.width) return;
    pen.fillStyle = colours.accent;
    pen.fillRect(xOf(head) - 1, top - 5, 2, size.bar + 10);
  }

  const TICK_STEPS_MS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200,
    86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000, 157680000].map((seconds) => seconds * 1000);

  function axisTicks() {
    const perPx = (view.to - view.from) / (size.width - size.gutter);
    const stepMs = TICK_STEPS_MS.find((ms) => ms / perPx >= 84) || TICK_STEPS_MS.at(-1);
    const shift = zoneOffset(view.from);
    const ticks = [];
    for (let ms = Math.ceil((view.from + shift) / stepMs) * stepMs - shift; ms <= view.to; ms += stepMs) ticks.push({ ms, stepMs });
    return ticks;
  }

  function drawAxis(ticks) {
    pen.fillStyle = colours.panel;
    pen.fillRect(0, 0, size.width, AXIS_PX);
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    let date = "";
    for (const { ms, stepMs } of ticks) {
      const x = Math.round(xOf(ms));
      pen.fillStyle = colours.line;
      pen.fillRect(x, AXIS_PX - 6, 1, 6);
      // The first text must not leave the canvas at the left, nor the last one at the right.
      const day = dateText(ms);
      const clock = stepMs < 86400000 ? clockText(ms, stepMs < 60000) : "";
      const half = pen.measureText(clock || day).width / 2;
      if (x + half > size.width) continue;
      pen.textAlign = x - half < 0 ? "left" : "center";
      pen.fillStyle = colours.muted;
      pen.fillText(clock || day, x, AXIS_PX - 14);
      if (clock && day !== date) {
        pen.fillStyle = colours.text;
        if (x + pen.measureText(day).width / 2 <= size.width) pen.fillText(day, pen.textAlign === "left" ? x : Math.max(x, 34), 8);
      }
      date = day;
    }
  }

  function setView(from, to) {
    const all = whole.to - whole.from;
    const length = Math.min(Math.max(to - from, Math.min(NARROWEST_VIEW_MS, all)), all);
    const start = Math.min(Math.max(from, whole.from), whole.to - length);
    view = { from: start, to: start + length };
    hideTip();
    askToDraw();
  }

  function zoom(factor, around = (view.from + view.to) / 2) {
    const length = (view.to - view.from) * factor;
    const share = (around - view.from) / (view.to - view.from);
    setView(around - length * share, around - length * share + length);
  }

  function pan(share) {
    const by = (view.to - view.from) * share;
    setView(view.from + by, view.to + by);
  }

  /** Around the chosen bookmark when it is in sight, so that zooming leads to it. */
  function zoomMiddle() {
    return moment && moment.start >= view.from && moment.start <= view.to ? moment.start : undefined;
  }

  function showOnTimeline(one) {
    const place = tracks.indexOf(one.camera);
    if (place >= 0 && trackTop(place) < AXIS_PX) tracksBox.scrollTop = place * size.row;
    if (place >= 0 && trackTop(place) + size.row > size.height) tracksBox.scrollTop = AXIS_PX + (place + 1) * size.row - size.height;
    if (one.start < view.from || one.start > view.to) {
      const length = view.to - view.from;
      setView(one.start - length / 2, one.start + length / 2);
    }
    askToDraw();
  }

  const isWhole = () => view.to - view.from >= (whole.to - whole.from) * 0.9999;

  function onWheel(event) {
    const rows = event.deltaMode === 1 ? 16 : 1;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      pan(((event.deltaX || event.deltaY) * rows) / size.width);
      return;
    }
    // Over the names, and when there is nothing left to zoom out of, the wheel scrolls as everywhere.
    const [x] = placeOf(event);
    if (x < size.gutter || (event.deltaY > 0 && isWhole())) return;
    event.preventDefault();
    zoom(Math.exp(Math.max(-120, Math.min(120, event.deltaY * rows)) * 0.003), timeAt(x));
  }

  function placeOf(event) {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** What lies at a point: a camera, the time, and the bookmark or clip there. */
  function under(x, y) {
    const place = Math.floor((y + tracksBox.scrollTop - AXIS_PX) / size.row);
    if (y < AXIS_PX || x < size.gutter || !(place in tracks)) return null;
    const camera = tracks[place];
    const ms = timeAt(x);
    return { camera, ms, number: bookmarkNear(camera, ms), clip: clipAt(camera, ms) };
  }

  function bookmarkNear(camera, ms) {
    const near = ((view.to - view.from) / (size.width - size.gutter)) * 6;
    const numbers = shownOf[camera];
    let best = -1;
    let bestDistance = near;
    const startOf = (place) => bookmarks[numbers[place]].start;
    for (let place = firstFrom(numbers.length, startOf, ms - longestBookmark - near); place < numbers.length; place += 1) {
      const one = bookmarks[numbers[place]];
      if (one.start > ms + near) break;
      const distance = Math.max(one.start - ms, ms - one.end, 0);
      if (distance <= bestDistance) { best = numbers[place]; bestDistance = distance; }
    }
    return best;
  }

  function clipAt(camera, ms) {
    const ofCamera = clipsOf[camera];
    for (let place = firstFrom(ofCamera.length, (at) => ofCamera[at].start, ms + 1) - 1; place >= 0; place -= 1) {
      if (ofCamera[place].end > ms) return ofCamera[place];
      if (ofCamera[place].start < ms - ofCamera.longest) break;
    }
    return null;
  }

  const fingers = new Map(); // pointers that are down: id -> x
  let pressed = null; // {x, from, to, moved}

  function onPointerDown(event) {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    const [x] = placeOf(event);
    fingers.set(event.pointerId, x);
    pressed = { x, from: view.from, to: view.to, moved: fingers.size > 1 };
    hideTip();
  }

  function onPointerMove(event) {
    const [x, y] = placeOf(event);
    if (!fingers.has(event.pointerId)) { showTip(x, y); return; }
    const other = [...fingers].find(([id]) => id !== event.pointerId);
    if (other) {
      const before = Math.abs(fingers.get(event.pointerId) - other[1]);
      zoom(Math.min(Math.max(before / Math.max(Math.abs(x - other[1]), 1), 0.5), 2), timeAt((x + other[1]) / 2));
      fingers.set(event.pointerId, x);
      return;
    }
    if (Math.abs(x - pressed.x) > 4) pressed.moved = true;
    if (!pressed.moved) return;
    canvas.classList.add("dragging");
    const by = ((pressed.x - x) / (size.width - size.gutter)) * (pressed.to - pressed.from);
    setView(pressed.from + by, pressed.to + by);
  }

  function onPointerUp(event) {
    const wasClick = fingers.delete(event.pointerId) && pressed && !pressed.moved && event.type === "pointerup";
    canvas.classList.remove("dragging");
    if (fingers.size) {
      const [rest] = fingers.values();
      pressed = { x: rest, from: view.from, to: view.to, moved: true };
      return;
    }
    if (!wasClick) return;
    const what = under(...placeOf(event));
    if (what && what.number >= 0) { choose(what.number); playMoment(); }
    else if (what && what.clip) { chooseClip(what.clip, what.ms); playMoment(); }
  }

  function showTip(x, y) {
    const what = under(x, y);
    const tip = byId("tip");
    tip.hidden = !what;
    if (!what) return;
    const one = bookmarks[what.number];
    const lines = one
      ? `${momentText(one.start)} · ${one.labels.slice(0, 8).map((label) => labels[label].name).join(", ")}`
      : `${momentText(what.ms)} · ${what.clip ? "video without a bookmark" : "no video"}`;
    tip.textContent = lines;
    const left = Math.min(Math.max(tracksBox.offsetLeft + x + 12, 0), tip.parentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(left, 4)}px`;
    tip.style.top = `${tracksBox.offsetTop + y + 18}px`;
  }

  function hideTip() { byId("tip").hidden = true; }

  function onTimelineKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const does = {
      ArrowLeft: () => pan(-0.15), ArrowRight: () => pan(0.15), ArrowUp: () => step(-1), ArrowDown: () => step(1),
      "+": () => zoom(0.6, zoomMiddle()), "=": () => zoom(0.6, zoomMiddle()), "-": () => zoom(1 / 0.6, zoomMiddle()),
      0: () => setView(whole.from, whole.to), Home: () => setView(whole.from, whole.from + view.to - view.from),
      End: () => setView(whole.to - (view.to - view.from), whole.to), Enter: playMoment,
    }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }

  // ---- the player

  const video = byId("video");
  let moment = null; // what is chosen: {camera, start, end, labels, path, uri, clipStart, offset, endOffset}
  let loaded = null; // the moment's uri that the video element has
  const ownFiles = new Map(); // uri -> address of the file the viewer chose in its stead

  function choose(number) {
    const one = bookmarks[number];
    chosen = number;
    const clip = one.clip;
    chooseMoment({
      camera: one.camera, start: one.start, end: one.end, labels: one.labels, path: clip && clip.path,
      uri: clip && clip.uri, clipStart: clip && clip.start, offset: one.offset, endOffset: one.endOffset,
    });
    showInList(number);
    showOnTimeline(one);
  }

  function chooseClip(clip, ms) {
    chosen = -1;
    const offset = Math.max(0, ms - clip.start);
    chooseMoment({ camera: clip.camera, start: ms, end: ms, labels: [], path: clip.path, uri: clip.uri,
      clipStart: clip.start, offset, endOffset: offset });
    drawList();
    askToDraw();
  }

  function chooseMoment(chosenMoment) {
    moment = chosenMoment;
    if (moment.uri !== loaded) unloadVideo();
    else if (moment.uri) video.currentTime = moment.offset / 1000;
    tellFacts();
    markChosen();
  }

  function markChosen() {
    const place = placeInList(chosen);
    byId("previous").disabled = !shown.length || place === 0;
    byId("next").disabled = !shown.length || place === shown.length - 1;
  }

  function tellFacts() {
    if (!moment) return;
    byId("facts").hidden = false;
    const isLong = moment.end > moment.start;
    const sameDay = dateText(moment.start) === dateText(moment.end);
    const end = sameDay ? clockText(moment.end) : momentText(moment.end);
    byId("fact-time").textContent = `${momentText(moment.start)}${isLong ? ` to ${end}` : ""} ${zoneText(moment.start)}`;
    byId("fact-camera").textContent = cameras[moment.camera].name;
    byId("fact-labels").replaceChildren(...moment.labels.map((label) => tag(labels[label])));
    byId("fact-labels").parentElement.hidden = !moment.labels.length;
    for (const id of ["file-line", "offset-line", "vlc-line"]) byId(id).hidden = !moment.uri;
    if (!moment.uri) return;
    byId("fact-path").textContent = moment.path;
    byId("fact-offset").textContent =
      moment.endOffset > moment.offset ? `${placeText(moment.offset)} to ${placeText(moment.endOffset)}` : placeText(moment.offset);
    // The address, not the path: percent-encoded, no name can become part of the command, in any shell.
    byId("fact-vlc").textContent = `vlc --start-time=${(Math.floor(moment.offset / 100) / 10).toFixed(1)} "${moment.uri}"`;
  }

  function unloadVideo() {
    loaded = null;
    video.removeAttribute("src");
    video.load();
    video.hidden = true;
    byId("trouble").hidden = true;
    byId("play").hidden = !moment.uri;
    byId("play").textContent = "Play";
    byId("screen-text").hidden = false;
    byId("screen-text").textContent = moment.uri
      ? moment.path.split(/[\\/]/).pop()
      : "No clip of this ledger covers this moment, so there is no file to play.";
  }

  function playMoment() {
    if (!moment) { step(1); return; }
    byId("screen").scrollIntoView({ block: "nearest" });
    if (!moment.uri) return;
    if (loaded !== moment.uri) {
      loaded = moment.uri;
      byId("trouble").hidden = true;
      byId("play").hidden = true;
      byId("screen-text").hidden = true;
      video.hidden = false;
      video.src = ownFiles.get(moment.uri) || moment.uri;
    }
    startVideo();
  }

  function startVideo() {
    if (video.readyState >= HTMLMediaElement.HAVE_METADATA) video.currentTime = moment.offset / 1000;
    // Refused while loading or for want of a click: the controls are there, and errors have their own event.
    const started = video.play();
    if (started) started.catch(() => {});
  }

  function onVideoKnown() {
    if (!loaded) return;
    // Of a file whose pictures it does not know, a browser plays the sound alone.
    if (video.videoWidth) video.currentTime = moment.offset / 1000;
    else onVideoError();
  }

  function onVideoError() {
    if (!loaded) return;
    unloadVideo();
    byId("screen-text").textContent = "Not playable here";
    byId("play").textContent = "Try again";
    byId("trouble").hidden = false;
    byId("trouble-text").textContent =
      "This browser cannot reach or play the file. Its drive may not be connected, the file may have moved, or the " +
      "browser may not know its format. Open it with a player at the time below, or choose it yourself.";
  }

  function useOwnFile(event) {
    const [file] = event.target.files;
    if (!file || !moment || !moment.uri) return;
    if (ownFiles.has(moment.uri)) URL.revokeObjectURL(ownFiles.get(moment.uri));
    ownFiles.set(moment.uri, URL.createObjectURL(file));
    event.target.value = "";
    playMoment();
  }

  function playHead() {
    return moment && loaded && video.readyState >= HTMLMediaElement.HAVE_METADATA
      ? moment.clipStart + video.currentTime * 1000 : null;
  }

  async function copy(event) {
    const text = byId(event.currentTarget.dataset.copies).textContent;
    const button = event.currentTarget;
    const isCopied = await copyText(text);
    byId("said").textContent = isCopied ? "Copied." : "Copying is not allowed here. The text is selected: copy it with the keyboard.";
    button.textContent = isCopied ? "Copied" : "Press Ctrl+C";
    if (!isCopied) getSelection().selectAllChildren(byId(button.dataset.copies));
    setTimeout(() => { button.textContent = "Copy"; byId("said").textContent = ""; }, 2500);
  }

  async function copyText(text) {
    if (!navigator.clipboard) return false;
    return navigator.clipboard.writeText(text).then(() => true, () => false);
  }

  // ---- all together

  function tellHeader() {
    byId("window").textContent = `· ${momentText(job.earliest)} to ${momentText(job.latest)} ${zoneText(job.earliest)}`;
    const videoMs = clipsOf.flat().reduce((sum, clip) => sum + clip.end - clip.start, 0);
    const facts = [count(bookmarks.length, "bookmark"), count(cameras.length, "camera")];
    if (spans.length) facts.push(`${count(spans.length, "clip")} with ${lengthText(videoMs) || "0 s"} of video`);
    byId("counts").textContent = facts.join(" · ");
    if (bookmarks.length > MANY_BOOKMARKS) {
      byId("notice").textContent = `This page holds ${count(bookmarks.length, "bookmark")}: on a small computer it may answer slowly. ` +
        "For a lighter one, export fewer labels (--label_white_list) or merge more (--merge_gap).";
      byId("notice").hidden = false;
    }
  }

  function onZone(event) {
    isLocal = event.target.value === "local";
    tellHeader();
    tellFacts();
    drawList();
    askToDraw();
  }

  function wire() {
    let typing = 0;
    byId("search").addEventListener("input", (event) => {
      clearTimeout(typing);
      typing = setTimeout(() => { filter.text = event.target.value.trim(); onFilter(); }, 120);
    });
    byId("clear").addEventListener("click", () => {
      clearTimeout(typing);
      byId("search").value = "";
      filter.text = "";
      filter.labels.clear();
      filter.cameras.clear();
      onFilter();
      byId("search").focus();
    });
    for (const bar of ["labels", "cameras"]) byId(bar).addEventListener("keydown", moveInToolbar);
    for (const radio of document.querySelectorAll("input[name=zone]")) radio.addEventListener("change", onZone);

    list.addEventListener("scroll", drawList, { passive: true });
    list.addEventListener("keydown", onListKey);
    list.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) { choose(Number(row.dataset.number)); playMoment(); }
    });

    canvas.addEventListener("wheel", onWheel, { passive: false });
    canvas.addEventListener("pointerdown", onPointerDown);
    canvas.addEventListener("pointermove", onPointerMove);
    canvas.addEventListener("pointerup", onPointerUp);
    canvas.addEventListener("pointercancel", onPointerUp);
    canvas.addEventListener("pointerleave", hideTip);
    canvas.addEventListener("keydown", onTimelineKey);
    tracksBox.addEventListener("scroll", askToDraw, { passive: true });
    byId("earlier").addEventListener("click", () => pan(-0.4));
    byId("later").addEventListener("click", () => pan(0.4));
    byId("zoom-in").addEventListener("click", () => zoom(0.5, zoomMiddle()));
    byId("zoom-out").addEventListener("click", () => zoom(2, zoomMiddle()));
    byId("fit").addEventListener("click", () => setView(whole.from, whole.to));

    byId("previous").addEventListener("click", () => step(-1));
    byId("next").addEventListener("click", () => step(1));
    byId("play").addEventListener("click", playMoment);
    byId("own-file").addEventListener("change", useOwnFile);
    for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", copy);
    video.addEventListener("error", onVideoError);
    video.addEventListener("loadedmetadata", onVideoKnown);
    video.addEventListener("timeupdate", askToDraw);

    // Sizes change with the window, and also when the page gets or loses its scroll bar.
    new ResizeObserver(layOutTimeline).observe(tracksBox);
    new ResizeObserver(layOutList).observe(list);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); askToDraw(); });
  }

  readColours();
  byId("my-time").title = Intl.DateTimeFormat().resolvedOptions().timeZone;
  tellHeader();
  wire();
  onFilter();
  document.documentElement.dataset.ready = "yes";
  performance.mark("camio-ready");
})();
