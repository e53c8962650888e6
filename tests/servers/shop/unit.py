"""The tests of the shop. They know no customer with an odd number."""

import unittest

from checkout import Declined, order


class Checkout(unittest.TestCase):
    def test_a_customer_pays_the_price(self):
        self.assertEqual(order(42), {"customer": 42, "price": 20})

    def test_a_declined_customer_gets_nothing(self):
        with self.assertRaises(Declined):
            order(30)


if __name__ == "__main__":
    unittest.main()
