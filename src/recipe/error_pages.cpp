#include "recipe/error_pages.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "base/letters.h"

namespace retort {

namespace {

// `words` stand in the message, by which it is found; a test looks for them in the sources. A page's number
// is its place here, from 1 on: people quote it, so new pages go to the end.
struct ErrorPage {
  const char *title, *words, *text;
};

constexpr ErrorPage kPages[] = {
    {"A key that retort does not have", "unknown key",
     "A recipe has the keys of `retort explain` and no others, so that a misspelt one is never "
     "ignored. The message shows the whole path and proposes the nearest name. Where the name"
     " is right and the place is not, the path says so: the learning rate is "
     "`train.optimizer.learning_rate`, not `train.learning_rate`. A key of Axolotl, LLaMA-Factory"
     " or TRL is answered with what it is here. `retort explain WORD` searches names and "
     "descriptions, and `retort init --from FILE` translates a whole recipe."},
    {"A column that the file does not have", "the data has no column",
     "A source's `prompt`, `completion`, `system` or `group` holds a {NAME}, and the records have"
     " no such column. The message lists the names as the file has them; upper and lower case "
     "differ. One long name that holds commas or semicolons means that the file is divided by "
     "another character: set `delimiter`. What stands inside of a JSON object is reached by its "
     "path, as {answers.text[0]}. `retort init FILE` looks at the file and writes the "
     "placeholders."},
    {"Records of no known kind", "no kind of record is recognised",
     "Records are read by their keys: `messages`, `conversations` of `from` and `value`, "
     "`instruction` and `output`, `prompt` and `completion`, or `text`. Others need `prompt` and "
     "`completion` in the source, with the columns as {placeholders}, or `fields`, which says "
     "where messages, roles and contents are kept. Pairs of `chosen` and `rejected` are "
     "preferences, which are not learned here: `completion: \"{chosen}\"` learns the chosen "
     "answers. `retort init FILE` proposes all of this."},
    {"A sample longer than a row", "but data.sample_tokens is",
     "`data.sample_tokens` is the longest sample in tokens, and `data.length` says what becomes of "
     "longer ones: error stops, skip leaves them out, cut shortens the longest message before the"
     " answer (never the answer), split divides plain texts. `data.keep` chooses the side that a "
     "cut keeps. Raising `data.sample_tokens` costs memory. `retort check` prints how long the "
     "samples are."},
    {"Answers that do not end", "the last answer has no end token",
     "A model learns to stop from the token that ends an answer, so it has to be among what is "
     "learned. Either the text ended before the answer did: raise `data.sample_tokens`. Or the chat "
     "template writes no such token behind an answer, which is so for all samples at once: choose"
     " another with `data.template`, or end the answers in your own with the token that ends a "
     "turn. `retort check` shows what is learned between ⟦ and ⟧: the end token has to stand "
     "before ⟧."},
    {"Nothing to learn", "has a token that is learned",
     "Every token of every sample is left out of the loss. `data.loss` and `data.train_on` choose"
     " whose messages are learned; with their defaults it is what the assistant says, so "
     "conversations without an answer teach nothing. Texts without questions are records of "
     "`text`, or files of format `text` or `lines`. `retort check` shows what is learned between "
     "⟦ and ⟧."},
    {"A model that is not there", "a folder with config.json and *.safetensors",
     "The name is taken as it stands: nothing is downloaded, `~` and `${VAR}` are not expanded, and "
     "paths are relative to the folder that the command runs in. A name such as `meta-"
     "llama/Llama-3.1-8B` is one of a hub: fetch the repository with the hub's own program, and name "
     "the folder that it wrote, which holds `config.json`, tokenizer and `*.safetensors`; or name a "
     ".gguf file. Where the path is that of an export, the message names the run that makes it."},
    {"A file that is not whole", "is the download complete",
     "Sizes that a file's header names do not fit its length: most often a download that ended "
     "early, or a disk that was full. Compare the size, or the SHA-256, with what the publisher "
     "says, and fetch the file again. Nothing of such a file is used."},
    {"A pointer instead of weights", "a Git LFS pointer",
     "The repository was cloned without Git LFS: the file holds three lines that name the "
     "weights. `git lfs install` and `git lfs pull` in that folder fetch them."},
    {"A base without a chat template", "brings no chat template",
     "Base models are trained on texts, and many bring no template for conversations. "
     "`data.template` takes the name of a built-in one, a file in Jinja, or its text; exports "
     "carry it, so that whoever runs the model writes the same. chatml needs tokens that the base"
     " may lack; `model.add_tokens` teaches them. Texts that are no conversations need none."},
    {"A chat template that refuses a conversation", "the chat template at",
     "The template itself raised this, with its own words: many demand that user and assistant "
     "alternate, or know no system message. The message names the record. Mend the record, leave "
     "such ones out with `on_bad_record: skip` (they are counted), or choose a template that "
     "takes them with `data.template`."},
    {"Text in another encoding", "invalid UTF-8",
     "Files are read as UTF-8. Tables that office programs of Western Europe save are mostly "
     "Windows-1252: set `encoding: cp1252` in the source. Other choices are latin1 and utf-16. A "
     "single bad byte in a file that is UTF-8 otherwise is damage: the message names its line."},
    {"Rows of a table that do not fit its header", "the header names",
     "A row of a CSV or TSV file has another number of fields than its header. Mostly a text with"
     " the separator in it stands outside of quotes; or a quote inside of a quoted text is not "
     "doubled, so that the field ends early. Where quotes are characters like others, set "
     "`quotes: none`. Where the separator was taken wrongly, set `delimiter`. `on_bad_record: "
     "skip` leaves such rows out and counts them."},
    {"A field that the template leaves out", "does not write it",
     "The record says something (tools, their calls, documents) and the chat template has no "
     "place for it, so that the model would learn answers to what it never saw. Choose a template"
     " that writes it with `data.template`, or leave the field out of the records. `retort init "
     "FILE` brings a ChatML with tools where the model's own has none."},
    {"Thoughts in the records", "what becomes of thoughts",
     "Answers bring their reasoning in a field of its own. Whether it is learned is yours to say,"
     " in the source: `reasoning: learn` puts it before the answer as `<think>...</think>`, mask "
     "shows it and learns only the answer, strip leaves it out."},
    {"An adapter of another base", "another model's adapter",
     "The shapes of the adapter's matrices are not those of this base. `retort inspect FOLDER` "
     "shows the adapter's tensors, its `adapter_config.json` names the base that it was made for."
     " Sizes of one family differ: an adapter of a 3B model fits no 8B one."},
    {"Weights that are not numbers", "holds a number that is not finite",
     "The file holds NaN or infinity: it was damaged, or the training that wrote it diverged. "
     "Take an earlier checkpoint, or fetch the file again. retort itself keeps the last "
     "checkpoint with finite weights."},
    {"A run that was begun otherwise", "the run so far was made otherwise",
     "The run's folder holds checkpoints of another recipe, other data, another build or, without "
     "`train.batch.parts`, another number of threads, and going on would end with other bytes than "
     "either. The message lists what differs. Choose another `run.folder`, go back to what it was, or set "
     "`train.checkpoint.resume_inexact: true`: the record then says so."},
    {"Too little memory", "this run needs about",
     "The peak was predicted before anything was trained. `train.memory: 700MiB` has retort "
     "choose recompute, rows and threads for a budget. By hand: `train.recompute: true`, a "
     "smaller `train.batch.pass_tokens`, fewer `train.threads`, `train.optimizer.kind: adamw8bit`,"
     " the base in fewer bits (`model.weights: keep` or nf4), or an adapter instead of every "
     "weight. A base that is larger than memory is read layer by layer with `model.schedule: "
     "layers`. `retort check` prices every choice."},
    {"Another process in the folder", "is being trained in by",
     "Two processes may not train in one folder. Wait for the other, or set another `run.folder`."
     " A process that was killed holds no lock: the message names one that lives."},
    {"A mistake of retort's", "please report it",
     "This is not your recipe's fault. Say what `retort --version` prints, the command, and the "
     "message; leave data out unless it is public. Where a run stopped so, its checkpoints are "
     "whole, and the same command goes on from them."},
};

std::string number_of(const ErrorPage& page) { return fmt::format("E{}", &page - kPages + 1); }

std::string section(const ErrorPage& page) {
  return fmt::format("\n## {}: {}\nThe message holds: {}\n\n{}\n", number_of(page), page.title, page.words,
                     page.text);
}

bool holds_all(const std::string& text, const std::string& words) {
  for (size_t begin = 0; begin < words.size();) {
    const auto end = std::min(words.find(' ', begin), words.size());
    if (text.find(words.substr(begin, end - begin)) == std::string::npos) return false;
    begin = end + 1;
  }
  return true;
}

}  // namespace

std::vector<std::string> error_page_words() {
  std::vector<std::string> words;
  for (const auto& page : kPages) words.emplace_back(page.words);
  return words;
}

std::string error_pages() {
  std::string text =
      "# Errors that need more than their line\n\nWritten by `retort explain error --markdown`; a test "
      "compares this file with the program. A message that has a page ends with the\n"
      "page's number: `retort explain E1` prints that page, and `retort explain error` with a message, or "
      "with some words of it, finds one.\n";
  for (const auto& page : kPages) text += section(page);
  return text;
}

std::string explain_error(const std::string& words) {
  std::string text;
  if (words.empty()) {
    for (const auto& page : kPages)
      text += fmt::format("{:<4} {:<46} {}\n", number_of(page), page.title, page.words);
    return text;
  }
  const auto asked = lower_case(words);
  for (const auto& page : kPages)
    if (asked == lower_case(number_of(page))) return section(page).substr(1);
  for (const auto& page : kPages)
    if (asked.find(lower_case(page.words)) != std::string::npos) text += section(page);
  if (!text.empty()) return text.substr(1);
  for (const auto& page : kPages)
    if (holds_all(lower_case(section(page)), asked)) text += section(page);
  if (!text.empty()) return text.substr(1);
  throw RecipeError(fmt::format("explain error: no page holds '{}'; `retort explain error` lists the pages",
                                printable(words)));
}

bool is_error_number(std::string_view word) {
  const auto digits = word.substr(std::min<size_t>(word.size(), 1));
  return word.starts_with('E') && !digits.empty() &&
         std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string with_error_numbers(std::string_view message) {
  std::string out;
  for (size_t begin = 0; begin < message.size();) {
    const auto end = std::min(message.find('\n', begin), message.size());
    const auto line = message.substr(begin, end - begin);
    out += line;
    const auto* page = std::find_if(std::begin(kPages), std::end(kPages), [&](const ErrorPage& one) {
      return line.find(one.words) != std::string_view::npos;
    });
    if (page != std::end(kPages)) out += fmt::format(" [{}]", number_of(*page));
    if (end < message.size()) out += '\n';
    begin = end + 1;
  }
  return out;
}

}  // namespace retort
