from django.contrib import admin

from example.core.models import Address, Amenity, Deposit, Landlord, RentalUnit, Tenant

admin.site.register([Address, Amenity, Deposit, Landlord, RentalUnit, Tenant])
