const study = document.querySelector("main").dataset.study;
const screens = [...document.querySelectorAll(".screen")];
const questions = screens.filter((screen) => screen.dataset.id);
const place = `study-${study}`;
const fresh = () => ({ participant: [...crypto.getRandomValues(new Uint8Array(6))].map((byte) => byte.toString(16).padStart(2, "0")).join(""), votes: {}, at: 0 });
let memory = fresh();
try {
  memory = JSON.parse(localStorage.getItem(place)) ?? memory;
} catch {
  // a browser that keeps nothing still takes votes
}

const keep = () => {
  try {
    localStorage.setItem(place, JSON.stringify(memory));
  } catch {
    // the same
  }
};
const votesOf = (screen) => (memory.votes[screen.dataset.id] ??= {});
const groups = (screen) => [...screen.querySelectorAll("fieldset")];
const isAnswered = (screen) => groups(screen).every((group) => votesOf(screen)[group.dataset.asked]);

function asCsv() {
  const lines = ["study,participant,question,asked,choice"];
  for (const screen of questions)
    for (const [asked, choice] of Object.entries(votesOf(screen)))
      lines.push([study, memory.participant, screen.dataset.id, asked, choice].join(","));
  return lines.join("\n") + "\n";
}

function show(at) {
  memory.at = Math.min(screens.length - 1, Math.max(0, at));
  keep();
  screens.forEach((screen, number) => (screen.hidden = number !== memory.at));
  const screen = screens[memory.at];
  if (screen.dataset.id) {
    for (const input of screen.querySelectorAll("input"))
      input.checked = votesOf(screen)[input.closest("fieldset").dataset.asked] === input.value;
    screen.querySelector(".next").disabled = !isAnswered(screen);
    for (const video of screen.querySelectorAll("video")) video.play().catch(() => {});
  }
  const open = questions.filter((question) => !isAnswered(question)).length;
  document.getElementById("left").textContent = open ? `${open} of ${questions.length} are not answered yet.` : "All questions are answered.";
  document.getElementById("votes").textContent = asCsv();
  scrollTo(0, 0);
}

function vote(screen, group, choice) {
  votesOf(screen)[group.dataset.asked] = choice;
  group.querySelector(`input[value="${choice}"]`).checked = true;
  screen.querySelector(".next").disabled = !isAnswered(screen);
  keep();
}

for (const button of document.querySelectorAll("[data-go]"))
  button.addEventListener("click", () => show(memory.at + Number(button.dataset.go)));
for (const input of document.querySelectorAll(".question input"))
  input.addEventListener("change", () => vote(input.closest(".question"), input.closest("fieldset"), input.value));

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const screen = screens[memory.at];
  const isChoosing = event.target.matches?.("input");
  if ((event.key === "Enter" && !event.target.matches?.("button, summary")) || (event.key === "ArrowRight" && !isChoosing)) {
    if (!screen.dataset.id || isAnswered(screen)) show(memory.at + 1);
  } else if (event.key === "ArrowLeft" && !isChoosing) {
    show(memory.at - 1);
  } else if (screen.dataset.id && /^[a-z]$/i.test(event.key)) {
    const choice = event.key.toUpperCase();
    const open = groups(screen).find((group) => !votesOf(screen)[group.dataset.asked]);
    if (open?.querySelector(`input[value="${choice}"]`)) vote(screen, open, choice);
  }
});

document.getElementById("download").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([asCsv()], { type: "text/csv" }));
  link.download = `votes-${memory.participant}.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
});

show(memory.at);
