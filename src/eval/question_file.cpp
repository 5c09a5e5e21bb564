#include "eval/question_file.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/files.h"
#include "data/json_records.h"
#include "data/readers.h"
#include "data/rows.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

std::string text_of(const Json& object, std::string_view key, const std::string& place) {
  const auto found = object.find(key);
  if (found == object.end()) corrupt(place, key, "this key is missing");
  if (!found->is_string()) corrupt(place, key, "expected a text");
  return found->get<std::string>();
}

std::vector<std::string> texts_of(const Json& value, std::string_view key, const std::string& place) {
  if (!value.is_array()) corrupt(place, key, "expected a list of texts");
  std::vector<std::string> texts;
  for (const auto& item : value) {
    if (!item.is_string()) corrupt(place, key, "expected a list of texts");
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

// An index, a letter, a label or the text of an option.
size_t answer_index(const Json& answer, const std::vector<std::string>& options,
                    const std::vector<std::string>& labels, const std::string& place) {
  if (answer.is_number_integer()) {
    const auto index = answer.get<int64_t>();
    if (index >= 0 && index < static_cast<int64_t>(options.size())) return static_cast<size_t>(index);
  } else if (answer.is_string()) {
    const auto text = answer.get<std::string>();
    if (const auto label = std::find(labels.begin(), labels.end(), text); label != labels.end())
      return static_cast<size_t>(label - labels.begin());
    if (text.size() == 1 && labels.empty())
      if (const auto letter = kLetters.find(text[0]); letter < options.size()) return letter;
    if (const auto option = std::find(options.begin(), options.end(), text); option != options.end())
      return static_cast<size_t>(option - options.begin());
  }
  corrupt(place, "answer",
          fmt::format("expected the index, letter or text of one of the {} options", options.size()));
}

constexpr int64_t kCountsFromOneOrZero = -1;

// "opa" to "opd" of MedMCQA.
bool is_medmcqa(const Json& object) { return object.contains("cop") && object.contains("opa"); }

// lm-evaluation-harness's text of HellaSwag: marks of WikiHow go.
std::string hellaswag_text(std::string text) {
  text = trimmed(text);
  for (size_t at; (at = text.find(" [title]")) != std::string::npos;) text.replace(at, 8, ". ");
  for (size_t open = 0; (open = text.find('[', open)) != std::string::npos;) {
    const auto close = text.find(']', open);
    if (close == std::string::npos) break;
    text.erase(open, close + 1 - open);
  }
  for (size_t at = 0; (at = text.find("  ", at)) != std::string::npos; at += 1) text.replace(at, 2, " ");
  return text;
}

// As Python's str.capitalize() for what HellaSwag holds: ASCII.
std::string capitalized(std::string text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x80) text[i] = static_cast<char>(i == 0 ? std::toupper(c) : std::tolower(c));
  }
  return text;
}

ChoiceQuestion hellaswag_question(const Json& object, const std::string& place) {
  ChoiceQuestion question{place, "", {}, 0};
  const auto context = text_of(object, "ctx_a", place) + " " + capitalized(text_of(object, "ctx_b", place));
  question.text = hellaswag_text(text_of(object, "activity_label", place) + ": " + context);
  for (auto& ending : texts_of(object.at("endings"), "endings", place))
    question.options.push_back(hellaswag_text(std::move(ending)));
  const auto label = object.find("label");
  if (label == object.end() || *label == "")
    corrupt(place, "label", "is missing; the files to test on come without, take those for validation");
  const auto text = label->is_string() ? label->get<std::string>() : label->dump();
  size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number >= question.options.size())
    corrupt(place, "label", fmt::format("expected a number below {}", question.options.size()));
  question.answer = number;
  return question;
}

// The options, with their labels where they have some.
std::vector<std::string> options_of(const Json& object, const std::string& place,
                                    std::vector<std::string>& labels) {
  if (is_medmcqa(object)) {
    std::vector<std::string> options;
    for (const char* key : {"opa", "opb", "opc", "opd"}) options.push_back(text_of(object, key, place));
    return options;
  }
  const auto* key = object.contains("choices") ? "choices" : "options";
  const auto choices = object.find(key);
  if (choices == object.end()) {
    std::vector<std::string> options;
    for (const char letter : kLetters)
      if (object.contains(std::string(1, letter)))
        options.push_back(text_of(object, std::string(1, letter), place));
      else break;
    return options;
  }
  if (!choices->is_object()) return texts_of(*choices, key, place);
  if (choices->contains("text")) {
    labels = texts_of(choices->value("label", Json()), fmt::format("{}.label", key), place);
    auto options = texts_of(choices->value("text", Json()), fmt::format("{}.text", key), place);
    if (labels.size() != options.size()) corrupt(place, key, "has not one label for each text");
    return options;
  }
  std::vector<std::string> options;
  for (const auto& [label, text] : choices->items()) {  // in the order of the labels
    if (!text.is_string()) corrupt(place, key, "expected a text for each letter");
    labels.push_back(label);
    options.push_back(text.get<std::string>());
  }
  return options;
}

ChoiceQuestion choice_question(const Json& object, const std::string& place) {
  if (object.contains("endings") && object.contains("ctx_a")) return hellaswag_question(object, place);
  ChoiceQuestion question{place, text_of(object, "question", place), {}, 0};
  std::vector<std::string> labels;
  question.options = options_of(object, place, labels);
  if (question.options.size() < 2 || question.options.size() > kLetters.size())
    corrupt(place, "choices",
            fmt::format("has {} options; 2 to {} make a question", question.options.size(), kLetters.size()));
  if (is_medmcqa(object)) return question;  // the file says from where it counts
  const char* key = object.contains("answerKey")    ? "answerKey"
                    : object.contains("answer_idx") ? "answer_idx"
                                                    : "answer";
  if (!object.contains(key)) corrupt(place, "answer", "this key is missing");
  question.answer = answer_index(object.at(key), question.options, labels, place);
  const auto text = object.find("answer");
  if (key == std::string_view("answer_idx") && text != object.end() && text->is_string())
    if (const auto other = std::find(question.options.begin(), question.options.end(), *text);
        other != question.options.end() && *other != question.options[question.answer])
      corrupt(place, "answer", "is the text of another option than answer_idx names");
  return question;
}

// MedMCQA's right options: the authors' file counts from 1, that of Hugging Face from 0.
class CorrectOptions {
 public:
  void add(const Json& object, const std::string& place) {
    const auto& cop = object.at("cop");
    const auto number = cop.is_number_integer() ? cop.get<int64_t>() : kCountsFromOneOrZero;
    if (number < 0 || number > 4)
      corrupt(place, "cop", "expected the number of the right option; the file to test on comes without it");
    all_.push_back(number);
    (number == 0 ? zero_ : four_) |= number == 0 || number == 4;
  }
  void settle(std::vector<ChoiceQuestion>& questions, const std::string& file) const {
    if (all_.empty()) return;
    if (zero_ == four_)
      corrupt(
          file, "cop",
          zero_ ? "counts from 0 in some questions and to 4 in others; is the file of one piece?"
                : "is 1 to 3 in every question, so that nobody can tell whether it counts from 0 or from 1; "
                  "write the questions with choices and answer");
    for (size_t i = 0; i < questions.size(); ++i)
      questions[i].answer = static_cast<size_t>(all_[i] - (four_ ? 1 : 0));
  }
  bool any() const { return !all_.empty(); }

 private:
  std::vector<int64_t> all_;
  bool zero_ = false, four_ = false;
};

// The rows of a question file, which is read as a source is.
void each_row(const std::filesystem::path& file, const std::function<void(Row row)>& take) {
  SourceSpec source;
  source.path = file.string();
  read_rows(source, take, [] {});
}

void each_object(const std::filesystem::path& file, int64_t limit,
                 const std::function<void(const Json&, const std::string&, std::string_view line)>& take) {
  int64_t count = 0;
  each_row(file, [&](const Row& row) {
    if (row.kind != Row::Kind::json)
      corrupt(row.place, "", "expected a file of JSON records (.jsonl, .json)");
    const auto object = parse_json_line(row.raw, row.place);
    if (limit == 0 || count++ < limit) take(object, row.place, row.raw);
  });
}

// A member of the line as it is spelled: a long number keeps its digits.
std::string spelled(std::string_view line, std::string_view key) {
  for (auto& [name, value] : json_columns(line))
    if (name == key) return value;
  return "";
}

// MMLU's own files have no header.
bool lacks_header(const SourceSpec& source) {
  if (source_format(source) != "csv") return false;
  const auto file = source_files(source).front();
  const MappedFile mapped(file);
  const auto made = text_of_file(mapped.text(), file, source.encoding);
  const auto content = without_bom(made ? std::string_view(*made) : mapped.text());
  auto line = content.substr(0, content.find('\n'));
  while (!line.empty()) {  // a column of this name makes it a header, the word within a question does not
    const auto end = std::min(line.find_first_of(",;|\t\r"), line.size());
    auto field = trimmed(line.substr(0, end));
    if (field.starts_with('"') && field.ends_with('"') && field.size() > 1)
      field = field.substr(1, field.size() - 2);
    if (field == "question" || field == "ctx_a") return false;
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return true;
}

std::vector<ChoiceQuestion> questions_without_header(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  const auto made = text_of_file(mapped.text(), mapped.name(), "utf-8");
  const auto content = without_bom(made ? std::string_view(*made) : mapped.text());
  std::vector<ChoiceQuestion> questions;
  read_csv("question,A,B,C,D,answer\n" + std::string(content), mapped.name(), ',',
           [&](const Columns& columns, const std::string&) {
             Json object = Json::object();
             for (const auto& [name, value] : columns) object[name] = value;
             questions.push_back(choice_question(
                 object, fmt::format("{}: question {}", mapped.name(), questions.size() + 1)));
           });
  return questions;
}

}  // namespace

std::vector<ChoiceQuestion> read_choice_questions(const std::filesystem::path& file, int64_t limit) {
  SourceSpec source;
  source.path = file.string();
  std::vector<ChoiceQuestion> questions;
  CorrectOptions correct;
  if (lacks_header(source)) {
    questions = questions_without_header(file);
  } else {
    each_row(file, [&](const Row& row) {
      Json object = Json::object();
      if (row.kind == Row::Kind::json) object = parse_json_line(row.raw, row.place);
      for (const auto& [name, value] : row.columns) object[name] = value;
      if (const auto cop = object.find("cop"); cop != object.end() && cop->is_string())
        if (const auto text = cop->get<std::string>(); text.size() == 1 && text >= "0" && text <= "4")
          *cop = text[0] - '0';  // of a table
      questions.push_back(choice_question(object, row.place));
      if (is_medmcqa(object)) correct.add(object, row.place);
    });
  }
  if (questions.empty()) corrupt(file.string(), "", "holds no questions");
  if (correct.any()) correct.settle(questions, file.string());
  if (limit > 0 && static_cast<int64_t>(questions.size()) > limit)
    questions.resize(static_cast<size_t>(limit));
  return questions;
}

std::vector<NumericProblem> read_numeric_problems(const std::filesystem::path& file, int64_t limit) {
  std::vector<NumericProblem> problems;
  each_object(file, limit, [&](const Json& object, const std::string& place, std::string_view line) {
    const auto text = object.contains("problem") ? "problem" : "question";
    const auto solution = object.contains("solution") ? "solution" : "answer";
    if (object.contains(solution) && object.at(solution).is_number())
      problems.push_back({place, text_of(object, text, place), spelled(line, solution)});
    else problems.push_back({place, text_of(object, text, place), text_of(object, solution, place)});
  });
  if (problems.empty()) corrupt(file.string(), "", "holds no problems");
  return problems;
}

std::vector<CodeProblem> read_code_problems(const std::filesystem::path& file, int64_t limit) {
  std::vector<CodeProblem> problems;
  each_object(file, limit, [&](const Json& object, const std::string& place, std::string_view) {
    const auto optional = [&](const char* key) {
      return object.contains(key) ? text_of(object, key, place) : std::string();
    };
    problems.push_back({text_of(object, "task_id", place), text_of(object, "prompt", place), optional("test"),
                        optional("entry_point"), place});
  });
  if (problems.empty()) corrupt(file.string(), "", "holds no problems");
  return problems;
}

}  // namespace retort
