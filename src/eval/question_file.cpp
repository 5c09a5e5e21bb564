#include "eval/question_file.h"

#include <algorithm>

#include "base/error.h"
#include "base/files.h"
#include "data/json_records.h"
#include "data/readers.h"

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

ChoiceQuestion choice_question(const Json& object, const std::string& place) {
  ChoiceQuestion question{place, text_of(object, "question", place), {}, 0};
  std::vector<std::string> labels;
  const auto choices = object.find("choices");
  if (choices != object.end() && choices->is_object()) {
    question.options = texts_of(choices->value("text", Json()), "choices.text", place);
    labels = texts_of(choices->value("label", Json()), "choices.label", place);
    if (labels.size() != question.options.size())
      corrupt(place, "choices", "has not one label for each text");
  } else if (choices != object.end()) {
    question.options = texts_of(*choices, "choices", place);
  } else {
    for (const char letter : kLetters)
      if (object.contains(std::string(1, letter)))
        question.options.push_back(text_of(object, std::string(1, letter), place));
      else break;
  }
  if (question.options.size() < 2 || question.options.size() > kLetters.size())
    corrupt(place, "choices",
            fmt::format("has {} options; 2 to {} make a question", question.options.size(), kLetters.size()));
  const auto key = object.contains("answerKey") ? "answerKey" : "answer";
  if (!object.contains(key)) corrupt(place, "answer", "this key is missing");
  question.answer = answer_index(object.at(key), question.options, labels, place);
  return question;
}

// Runs `take` over the objects of a JSONL file until it has had `limit` of them.
void each_object(const std::filesystem::path& file, int64_t limit,
                 const std::function<void(const Json&, const std::string&, std::string_view line)>& take) {
  const MappedFile mapped(file);
  int64_t count = 0;
  read_lines(mapped.text(), mapped.name(), [&](std::string_view line, std::string place) {
    const auto object = parse_json_line(line, place);
    if (limit == 0 || count++ < limit) take(object, place, line);
  });
}

// A member of the line as it is spelled: a long number keeps its digits.
std::string spelled(std::string_view line, std::string_view key) {
  for (auto& [name, value] : json_columns(line))
    if (name == key) return value;
  return "";
}

bool is_csv(const std::filesystem::path& file) { return file.extension() == ".csv"; }

}  // namespace

std::vector<ChoiceQuestion> read_choice_questions(const std::filesystem::path& file, int64_t limit) {
  std::vector<ChoiceQuestion> questions;
  if (!is_csv(file)) {
    each_object(file, limit, [&](const Json& object, const std::string& place, std::string_view) {
      questions.push_back(choice_question(object, place));
    });
  } else {
    const MappedFile mapped(file);
    const auto content = without_bom(mapped.text());
    const auto first_line = content.substr(0, content.find('\n'));
    const bool header = first_line.starts_with("question,") || first_line.starts_with("\"question\"");
    const auto with_header =
        header ? std::string(content)
               : "question,A,B,C,D,answer\n" + std::string(content);  // MMLU's own files have none
    int64_t row = 0;
    read_csv(with_header, mapped.name(), ',', [&](const Columns& columns, const std::string&) {
      ++row;
      if (limit != 0 && row > limit) return;
      Json object = Json::object();
      for (const auto& [name, value] : columns) object[name] = value;
      questions.push_back(choice_question(object, fmt::format("{}: question {}", mapped.name(), row)));
    });
  }
  if (questions.empty()) corrupt(file.string(), "", "holds no questions");
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
    problems.push_back({text_of(object, "task_id", place), text_of(object, "prompt", place)});
  });
  if (problems.empty()) corrupt(file.string(), "", "holds no problems");
  return problems;
}

}  // namespace retort
