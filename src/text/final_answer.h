// Final answers of competition-mathematics solutions: where they stand in a text, and when two of them are
// equal.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace retort {

// The content of the last \boxed{} or \fbox{}; else what follows the last "####" that is the last line or
// holds a number (others head sections); else the answer in what follows the last "answer is" or "answer:" up
// to the end of its sentence or line; else the formula between marks ($, \(, \[) that ends the text, or the
// formula that is all of it, behind its last "="; else the last number; else the letter of the last "(B)".
// nullopt when there is none of them. The text comes without thoughts: see thoughts.h.
std::optional<std::string> final_answer(std::string_view text);

// Normalisation of the MATH benchmark (arXiv:2103.03874, strip_string): units, spaces, \left \right, \dfrac,
// \frac12, \sqrt3, a/b, 0.5, "x = " and the like.
std::string normalised_formula(std::string_view formula);

// A rational number as written: 1,234.50, -3/4, \frac{1}{2}, 25\%, 1.5e3, also with words behind it ("5
// apples"). nullopt when the text is anything else.
std::optional<double> number_of(std::string_view text);

// Equal after normalisation, or equal as numbers (to 1e-9 of the larger).
bool equal_answers(std::string_view expected, std::string_view got);

}  // namespace retort
