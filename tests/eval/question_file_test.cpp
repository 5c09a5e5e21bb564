#include "eval/question_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"

namespace retort {
namespace {

std::filesystem::path file_with(const std::string& name, const std::string& content) {
  const auto path = std::filesystem::path(testing::TempDir()) / name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

std::string problem_of(const std::string& name, const std::string& content) {
  try {
    read_choice_questions(file_with(name, content), 0);
  } catch (const FormatError& error) { return error.what(); }
  return "accepted";
}

}  // namespace

TEST(ChoiceQuestions, ReadsMmluCsvWithAndWithoutAHeader) {
  const std::string rows = "\"What, is 1 + 1?\",1,2,3,4,B\nSky?,blue,red,green,grey,A\n";
  for (const auto& content : {rows, "question,A,B,C,D,answer\n" + rows}) {
    const auto questions = read_choice_questions(file_with("mmlu.csv", content), 0);
    ASSERT_EQ(questions.size(), 2u);
    EXPECT_EQ(questions[0].text, "What, is 1 + 1?");
    EXPECT_EQ(questions[0].options, (std::vector<std::string>{"1", "2", "3", "4"}));
    EXPECT_EQ(questions[0].answer, 1u);
    EXPECT_EQ(questions[1].answer, 0u);
    EXPECT_EQ(read_choice_questions(file_with("mmlu.csv", content), 1).size(), 1u);
  }
}

TEST(ChoiceQuestions, ReadsEveryJsonShape) {
  const auto questions = read_choice_questions(
      file_with("q.jsonl",
                R"({"question": "q", "choices": ["x", "y", "z"], "answer": 2})"
                "\n"
                R"({"question": "q", "choices": ["x", "y"], "answer": "B"})"
                "\n"
                R"({"question": "q", "choices": ["x", "yes"], "answer": "yes"})"
                "\n"
                R"({"question": "q", "A": "x", "B": "y", "C": "z", "answer": "C"})"
                "\n"
                R"({"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"})"
                "\n"),
      0);
  ASSERT_EQ(questions.size(), 5u);
  EXPECT_EQ(questions[0].answer, 2u);
  EXPECT_EQ(questions[1].answer, 1u);
  EXPECT_EQ(questions[2].answer, 1u);
  EXPECT_EQ(questions[3].answer, 2u);
  EXPECT_EQ(questions[4].answer, 1u);
}

TEST(ChoiceQuestions, RefusesWhatIsNoQuestionNamingTheLine) {
  EXPECT_NE(
      problem_of("a.jsonl", R"({"question": "q", "choices": ["x", "y"], "answer": 2})").find("a.jsonl:1"),
      std::string::npos);
  EXPECT_NE(problem_of("b.jsonl", R"({"question": "q", "choices": ["x"], "answer": 0})").find("1 options"),
            std::string::npos);
  EXPECT_NE(problem_of("c.jsonl", R"({"question": "q", "choices": ["x", "y"]})").find("answer"),
            std::string::npos);
  EXPECT_NE(
      problem_of("d.jsonl", R"({"question": 3, "choices": ["x", "y"], "answer": 0})").find("expected a text"),
      std::string::npos);
  EXPECT_NE(problem_of("e.jsonl", R"({"question": "q", "choices": {"text": ["x", "y"]}, "answerKey": "1"})"),
            "accepted");
  EXPECT_NE(problem_of("f.jsonl", R"({"question": "q", "choices": 7, "answer": 0})"), "accepted");
  EXPECT_NE(problem_of("g.jsonl", ""), "accepted");
  EXPECT_NE(problem_of("h.csv", "question,A,B,C,D,answer\nq,1,2,3,4,F\n"), "accepted");
}

TEST(ChoiceQuestions, ReadsMedQaMedMcqaAndHellaSwag) {
  const auto medqa = read_choice_questions(
      file_with("medqa.jsonl",
                R"({"question":"q","options":{"A":"x","B":"y","C":"z"},"answer":"y","answer_idx":"B"})"
                "\n"
                R"({"question":"q","options":["x","y","z"],"answer":"C","answer_index":2})"),
      0);
  ASSERT_EQ(medqa.size(), 2u);
  EXPECT_EQ(medqa[0].options, (std::vector<std::string>{"x", "y", "z"}));
  EXPECT_EQ(medqa[0].answer, 1u);
  EXPECT_EQ(medqa[1].answer, 2u);
  EXPECT_NE(problem_of("medqa2.jsonl",
                       R"({"question":"q","options":{"A":"x","B":"y"},"answer":"x","answer_idx":"B"})")
                .find("another option than answer_idx names"),
            std::string::npos);

  const auto cop = [](const char* values) {
    std::string lines;
    for (const char* c = values; *c; ++c)
      lines += std::string(R"({"question":"q","opa":"w","opb":"x","opc":"y","opd":"z","cop":)") + *c + "}\n";
    return lines;
  };
  EXPECT_EQ(read_choice_questions(file_with("mc0.jsonl", cop("1203")), 0)[0].answer, 1u);  // counts from 0
  EXPECT_EQ(read_choice_questions(file_with("mc1.jsonl", cop("1234")), 1)[0].answer,
            0u);  // the fourth says from 1
  EXPECT_NE(problem_of("mc2.jsonl", cop("1213")).find("from 0 or from 1"), std::string::npos);
  EXPECT_NE(problem_of("mc3.jsonl", cop("0124")).find("counts from 0 in some"), std::string::npos);

  // lm-evaluation-harness: preprocess(activity_label + ": " + ctx_a + " " + ctx_b.capitalize()).
  const auto swag = read_choice_questions(
      file_with(
          "swag.jsonl",
          R"({"activity_label":"Roof shingle removal","ctx_a":"A man sits on a roof. [header] Ask",)"
          R"("ctx_b":"he","endings":["is [step] using wrap.","is [title] ripping tiles."],"label":"1"})"),
      0);
  EXPECT_EQ(swag[0].text, "Roof shingle removal: A man sits on a roof. Ask He");
  EXPECT_EQ(swag[0].options, (std::vector<std::string>{"is using wrap.", "is. ripping tiles."}));
  EXPECT_EQ(swag[0].answer, 1u);
  EXPECT_NE(problem_of("swag2.jsonl",
                       R"({"activity_label":"a","ctx_a":"b","ctx_b":"c","endings":["x","y"],"label":""})")
                .find("take those for validation"),
            std::string::npos);
}

TEST(ChoiceQuestions, FilesAreReadAsSourcesAre) {
  EXPECT_EQ(
      read_choice_questions(file_with("a.json", R"([{"question":"q","choices":["x","y"],"answer":1}])"), 0)[0]
          .answer,
      1u);
  EXPECT_EQ(read_choice_questions(file_with("t.tsv", "question\tA\tB\tanswer\nq\tx\ty\tB\n"), 0)[0].answer,
            1u);
  EXPECT_EQ(read_choice_questions(file_with("s.csv", "question;A;B;answer\nq, r;x;y;A\n"), 0)[0].text,
            "q, r");
  // A first question that holds the words is no header.
  const auto rows = read_choice_questions(file_with("n.csv", "Which question has an answer?,1,2,3,4,B\n"), 0);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].text, "Which question has an answer?");
}

TEST(NumericProblems, ReadMathAndGsmKeys) {
  const auto problems =
      read_numeric_problems(file_with("n.jsonl", R"({"problem": "p", "solution": "\\boxed{3}", "level": "1"})"
                                                 "\n"
                                                 R"({"question": "p", "answer": "#### 4"})"
                                                 "\n"
                                                 R"({"question": "p", "answer": 5})"
                                                 "\n"),
                            0);
  ASSERT_EQ(problems.size(), 3u);
  EXPECT_EQ(problems[0].solution, "\\boxed{3}");
  EXPECT_EQ(problems[2].solution, "5");
  EXPECT_THROW(read_numeric_problems(file_with("m.jsonl", R"({"problem": "p"})"), 0), FormatError);
}

TEST(CodeProblems, ReadHumanEvalsKeys) {
  const auto problems = read_code_problems(
      file_with("h.jsonl",
                R"({"task_id": "HumanEval/0", "prompt": "def f():\n", "entry_point": "f", "test": "",)"
                R"( "canonical_solution": ""})"),
      0);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].task_id, "HumanEval/0");
  EXPECT_THROW(read_code_problems(file_with("i.jsonl", R"({"task_id": "x"})"), 0), FormatError);
}

}  // namespace retort
